"""What a build has of its client."""

from __future__ import annotations

from pathlib import Path

import pytest

from torana.core.pool import run_blocking
from torana.gateway.daemon.clientside import ClientSide
from torana.gateway.daemon.config import parse_config
from torana.gateway.daemon.registries import TokenCache, registry_settings
from torana.gateway.session.auth import Auth, Credentials
from torana.gateway.session.local import LocalSession
from torana.gateway.session.manager import SessionManager
from torana.gateway.session.uploadsource import UploadSource
from torana.plugins.manager import PluginManager
from torana.plugins.registry.connection import Pools
from torana.plugins.registry.settings import RegistrySettings
from torana.plugins.sources.image import ImageSource


class Store:
    """Credentials by host; notes what it is asked for."""

    def __init__(self, **known: Credentials) -> None:
        self.known = known
        self.asked: list[str] = []

    async def credentials(self, host: str) -> Credentials:
        self.asked.append(host)
        return self.known.get(host.partition(".")[0], Credentials())


def client_side(sessions: SessionManager, session_id: str) -> ClientSide:
    return ClientSide(
        sessions, session_id, PluginManager(), RegistrySettings(), Pools(), TokenCache()
    )


async def test_credentials_are_the_client_s() -> None:
    store = Store(one=Credentials("ann", "secret"), two=Credentials("", "token"))
    sessions = SessionManager()
    with sessions.registered(LocalSession([Auth(store)], id="s")):
        credentials = client_side(sessions, "s").registries.credentials
        found = await run_blocking(credentials.get, "one.example")
        assert found is not None and (found.user, found.password) == ("ann", "secret")
        found = await run_blocking(credentials.get, "two.example")
        assert found is not None and found.identity_token == "token" and not found.user
        assert await run_blocking(credentials.get, "three.example") is None
        await run_blocking(credentials.get, "docker.io")
    assert store.asked[-1] == "registry-1.docker.io"


async def test_sources_for_the_client() -> None:
    side = client_side(SessionManager(), "s")
    assert isinstance(side.source("docker-image"), ImageSource)
    assert isinstance(side.source("http"), UploadSource)
    assert side.source("gopher") is None


async def test_without_a_session_there_are_no_outputs() -> None:
    side = client_side(SessionManager(), "")
    assert await side.output(0) is None
    assert await side.secrets.get("any") is None


def test_settings_of_registries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "r.toml").write_text('[registry."b.example"]\nhttp = true\n')
    monkeypatch.setenv("TORANA_REGISTRIES", str(tmp_path / "r.toml"))
    own = registry_settings(parse_config('[registry."a.example"]\ninsecure = true\n', "t"))
    assert own.host("a.example").insecure and own.host("b.example").http is None
    assert registry_settings(parse_config("", "t")).host("b.example").http is True
