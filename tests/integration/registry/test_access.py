"""Who may: TLS with an authority of our own, client certificates, tokens of a token server."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.registry.builds import Builds
from tests.integration.registry.certificates import Authority, TokenServer
from tests.integration.registry.servers import RealRegistry

from torana.core.errors import ToranaError
from torana.gateway.engines.engine import ExportRequest
from torana.plugins.exporters.pushing import PushError
from torana.plugins.registry import access, connection
from torana.plugins.registry.access import RegistryAccess
from torana.plugins.registry.credentials import DockerCredentials
from torana.plugins.registry.errors import RegistryAuthError, RegistryError, RegistryNotFoundError
from torana.plugins.registry.settings import HostSettings, RegistrySettings

pytestmark = pytest.mark.needs("docker-registry", "openssl")

TEXT = "FROM scratch\nCOPY Dockerfile /\n"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_FIRST_PAUSE_S", 0.001)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def builds_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Builds]]:
    """Makes builds that reach one host with given settings, and push the same way."""
    made: list[Builds] = []

    def make(host: str = "", settings: HostSettings | None = None, login: str = "") -> Builds:
        folder = tmp_path / f"build{len(made)}"
        folder.mkdir()
        auth = base64.b64encode(login.encode()).decode()
        auths = {host: {"auth": auth}} if login else {}
        (folder / "config.json").write_text(json.dumps({"auths": auths}))
        own = RegistryAccess(
            RegistrySettings({host: settings or HostSettings()}),
            DockerCredentials(folder / "config.json"),
        )
        monkeypatch.setattr(access, "_default", own)
        made.append(Builds(folder, own))
        return made[-1]

    yield make
    for each in made:
        each.close()


def pushed(name: str, **attrs: str) -> ExportRequest:
    return ExportRequest(type="image", attrs={"name": name, "push": "true", **attrs})


async def test_an_authority_of_our_own(
    start_registry: Callable[..., RealRegistry],
    authority: Authority,
    builds_with: Callable[..., Builds],
) -> None:
    certificate, key = authority.sign("server", "serverAuth")
    registry = start_registry(certificate=certificate, key=key)
    name = f"{registry.host}/some/app:1"
    trusting = HostSettings(ca_files=(authority.certificate,))
    await builds_with(registry.host, trusting).build(TEXT, pushed(name))
    builds = builds_with(registry.host, trusting)
    assert await builds.files(f"FROM {name}\n") == {"Dockerfile": TEXT}

    strangers = builds_with(registry.host, HostSettings(http=False))
    with pytest.raises(RegistryError, match=f"{registry.host}.*certificate") as caught:
        await strangers.files(f"FROM {name}\n")
    assert "registries.toml" in (caught.value.hint or "")
    with pytest.raises(PushError, match=f"failed to push {name}: .*certificate"):
        await strangers.build(TEXT, pushed(name))
    careless = builds_with(registry.host, HostSettings(insecure=True))
    assert await careless.files(f"FROM {name}\n")
    await careless.build(TEXT, pushed(f"{name}a"))
    with pytest.raises(RegistryNotFoundError, match="not found"):  # as https says, not http
        await careless.files(f"FROM {name}c\n")
    await strangers.build(TEXT, pushed(f"{name}b", **{"registry.insecure": "true"}))
    with pytest.raises(RegistryError, match="answers 400") as caught:
        await builds_with().files(f"FROM {name}\n")
    assert "http = false" in (caught.value.hint or "")


async def test_insecure_is_http_where_there_is_no_tls(
    start_registry: Callable[..., RealRegistry], builds_with: Callable[..., Builds]
) -> None:
    registry = start_registry()
    name = f"{registry.host}/some/app:1"
    builds = builds_with(registry.host, HostSettings(insecure=True))
    await builds.build(TEXT, pushed(name))
    assert await builds_with(registry.host, HostSettings(insecure=True)).files(f"FROM {name}\n")


async def test_client_certificates(
    start_registry: Callable[..., RealRegistry],
    authority: Authority,
    builds_with: Callable[..., Builds],
    tmp_path: Path,
) -> None:
    certificate, key = authority.sign("server", "serverAuth")
    registry = start_registry(
        certificate=certificate, key=key, client_authority=authority.certificate
    )
    name = f"{registry.host}/some/app:1"
    client, client_key = authority.sign("client", "clientAuth")
    folder = tmp_path / "certs.d"
    folder.mkdir()
    (folder / "ca.crt").write_bytes(authority.certificate.read_bytes())
    (folder / "me.cert").write_bytes(client.read_bytes())
    (folder / "me.key").write_bytes(client_key.read_bytes())
    builds = builds_with(registry.host, HostSettings.make(tls_folders=(folder,)))
    await builds.build(TEXT, pushed(name))
    pair = HostSettings(ca_files=(authority.certificate,), client_pairs=((client_key, client),))
    assert await builds_with(registry.host, pair).files(f"FROM {name}\n")
    nobody = builds_with(registry.host, HostSettings(ca_files=(authority.certificate,)))
    with pytest.raises(RegistryError, match=registry.host):
        await nobody.files(f"FROM {name}\n")


async def test_tokens(
    start_registry: Callable[..., RealRegistry],
    authority: Authority,
    builds_with: Callable[..., Builds],
) -> None:
    tokens = TokenServer(authority)
    try:
        registry = start_registry(token=tokens.section)
        base, name = f"{registry.host}/team/base:1", f"{registry.host}/other/app:1"
        builds = builds_with(registry.host, login=tokens.user)
        await builds.build(TEXT, pushed(base))
        assert tokens.asked["repository:team/base:pull,push"]

        anyone = builds_with(registry.host)
        assert await anyone.files(f"FROM {base}\n") == {"Dockerfile": TEXT}
        assert "" in tokens.users
        with pytest.raises(PushError, match=f"failed to push {base}: .*access denied") as refused:
            await anyone.build(TEXT, pushed(base))
        assert "docker login" in (refused.value.hint or "")
        with pytest.raises(RegistryAuthError, match="gives no token: access denied"):
            await builds_with(registry.host, login="ann:wrong").files(f"FROM {base}\n")

        # The base is there already: its blob is mounted, with a token for both repositories.
        both = builds_with(registry.host, login=tokens.user)
        await both.build(f"FROM {base}\nCOPY Dockerfile /more\n", pushed(name))
        assert tokens.asked["repository:team/base:pull"]
        assert await builds_with(registry.host).files(f"FROM {name}\n")
    finally:
        tokens.close()


async def test_mirrors_and_what_they_lack(
    start_registry: Callable[..., RealRegistry], builds_with: Callable[..., Builds]
) -> None:
    origin, mirror = start_registry(), start_registry()
    name = f"{origin.host}/team/app"
    await builds_with().build(TEXT, pushed(f"{name}:1"))
    await builds_with().build(TEXT, pushed(f"{mirror.host}/team/app:2"))
    settings = HostSettings(mirrors=(mirror.host,))
    assert await builds_with(origin.host, settings).files(f"FROM {name}:1\n")  # not at the mirror
    assert await builds_with(origin.host, settings).files(f"FROM {name}:2\n")  # only there
    mirror.stop()
    assert await builds_with(origin.host, settings).files(f"FROM {name}:1\n")
    with pytest.raises(ToranaError, match=f"{name}:2: not found"):
        await builds_with(origin.host, settings).files(f"FROM {name}:2\n")
