"""Detached signatures of downloads, made by gpg itself."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.sources.conftest import Store, Web
from tests.integration.sources.test_git_signatures import Signer, pgp
from tests.integration.sources.test_http import fetch, instance

from torana.core.errors import CorruptError
from torana.core.oci.digest import Digest
from torana.plugins.sources.pgpsignature import SignatureError, dearmored, verify_pgp

__all__ = ["pgp"]  # a fixture

pytestmark = pytest.mark.needs("gpg", "gpgv")

Sign = Callable[..., str]


@pytest.fixture
def sign(pgp: Signer, tmp_path: Path) -> Sign:
    """Gives an armored detached signature of some bytes."""

    def run(data: bytes, *options: str) -> str:
        (tmp_path / "payload").write_bytes(data)
        command = ["gpg", "--homedir", pgp.environment["GNUPGHOME"], "--batch", "--quiet"]
        command += [
            *options,
            "--armor",
            "--detach-sign",
            "--output",
            "-",
            str(tmp_path / "payload"),
        ]
        return subprocess.run(command, check=True, capture_output=True).stdout.decode()

    return run


async def test_a_signed_file(store: Store, web: Web, pgp: Signer, sign: Sign) -> None:
    wanted = {"sig.pubkey": pgp.public, "sig.signature": sign(web.body)}
    services = store.build()
    key, body = await fetch(web, services, **wanted)
    assert body == web.body
    assert web.methods() == ["GET"]
    assert key == (await fetch(web, services))[0]  # the bytes are the key


async def test_with_a_checksum_it_is_fetched_for_the_key(
    store: Store, web: Web, pgp: Signer, sign: Sign
) -> None:
    digest = str(Digest.of(web.body))
    wanted = {"sig.pubkey": pgp.public, "sig.signature": sign(web.body), "checksum": digest}
    services = store.build()
    key = await instance(web, services, **wanted).cache_key(0)
    assert key == await instance(web, services, checksum=digest).cache_key(0)
    assert web.methods() == ["GET"]
    with pytest.raises(CorruptError, match="digest mismatch"):
        other = {**wanted, "checksum": str(Digest.of(b"other"))}
        await instance(web, services, **other).cache_key(0)


async def test_a_file_that_another_has_signed(
    store: Store, web: Web, pgp: Signer, sign: Sign
) -> None:
    wanted = {"sig.pubkey": pgp.public, "sig.signature": sign(b"something else")}
    with pytest.raises(SignatureError, match=r"http://127.*file\.bin: signature does not match"):
        await instance(web, store.build(), **wanted).cache_key(0)
    wanted["sig.signature"] = "no signature"
    with pytest.raises(SignatureError, match="not an armored OpenPGP signature"):
        await instance(web, store.build(), **wanted).cache_key(0)
    wanted = {"sig.pubkey": "no key", "sig.signature": sign(web.body)}
    with pytest.raises(SignatureError, match="key to check signatures with is malformed"):
        await instance(web, store.build(), **wanted).cache_key(0)
    assert not store.unfinished()


async def test_what_is_here_already_is_checked(
    store: Store, web: Web, pgp: Signer, sign: Sign
) -> None:
    await fetch(web, store.build())
    wanted = {"sig.pubkey": pgp.public, "sig.signature": sign(b"something else")}
    with pytest.raises(SignatureError, match="does not match"):
        await instance(web, store.build(), **wanted).cache_key(0)
    wanted["sig.signature"] = sign(web.body)
    assert (await fetch(web, store.build(), **wanted))[1] == web.body


async def test_weak_hashes(pgp: Signer, sign: Sign, tmp_path: Path) -> None:
    signature = sign(b"text", "--digest-algo", "SHA224").encode()
    with pytest.raises(SignatureError, match="weak hash"):
        await verify_pgp(tmp_path / "payload", signature, pgp.public)
    await verify_pgp(tmp_path / "payload", sign(b"text").encode(), pgp.public)


def test_several_keys(pgp: Signer) -> None:
    assert dearmored(pgp.public + "\n" + pgp.public) == 2 * dearmored(pgp.public)
