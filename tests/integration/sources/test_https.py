"""The http source and certificates, which are those that OpenSSL trusts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.integration.registry.certificates import Authority
from tests.integration.sources.conftest import Store
from tests.integration.sources.test_conformance import serving

from torana.core.ops.source import SourceRequest
from torana.plugins.sources.http import HttpSource
from torana.plugins.sources.webclient import FetchError

pytestmark = pytest.mark.needs("openssl")


async def test_certificates_are_checked_once_and_by_what_is_trusted_now(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = tmp_path / "served"
    served.mkdir()
    (served / "file").write_text("content")
    authorities = [Authority(tmp_path, name) for name in ("one", "two")]
    certificate = authorities[1].sign("server", "serverAuth")
    with serving(served, certificate) as port:
        request = SourceRequest(scheme="https", rest=f"localhost:{port}/file")
        for name in ("SSL_CERT_DIR", "SSL_CERT_FILE"):
            monkeypatch.setenv(name, str(authorities[0].certificate))
        async with asyncio.timeout(60):  # it was asked again for ever
            with pytest.raises(FetchError, match="certificate verify failed") as caught:
                await HttpSource().open(request, store.build()).cache_key(0)
        assert caught.value.hint == "trust a private authority with SSL_CERT_FILE=<file>"
        monkeypatch.setenv("SSL_CERT_FILE", str(authorities[1].certificate))
        assert (await HttpSource().open(request, store.build()).cache_key(0)).is_last
