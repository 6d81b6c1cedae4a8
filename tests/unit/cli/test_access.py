"""Secrets, agents and named contexts of the command line."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from torana.cli.access import parse_agent, parse_secret
from torana.cli.contexts import read_build_contexts
from torana.core.errors import UsageError
from torana.gateway.engines.engine import AgentSource, SecretSource
from torana.plugins.manager import PluginManager

PLUGINS = PluginManager()


def test_a_secret_is_a_file_or_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("x")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOKEN", "y")
    variable = SecretSource(id="a", type="env", fields={"env": "TOKEN"})
    file = SecretSource(id="a", type="file", fields={"src": "token"})
    assert parse_secret("id=a,src=token", PLUGINS) == file
    assert parse_secret("id=a,type=file,source=token", PLUGINS) == file
    assert parse_secret("id=a,env=TOKEN", PLUGINS) == variable
    assert parse_secret("type=env,id=a,src=TOKEN", PLUGINS) == variable
    assert parse_secret("id=TOKEN", PLUGINS) == SecretSource(id="TOKEN", type="env")
    assert parse_secret("id=token", PLUGINS) == SecretSource(id="token", type="file")


@pytest.mark.parametrize("text", ["src=x", "id=a,foo=b", "id=a,src=none", "id=a,env=NONE_SUCH"])
def test_wrong_secrets_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_secret(text, PLUGINS)


def test_an_agent_is_a_socket_or_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets must be short
    for name in ("one", "two"):
        (tmp_path / name).write_text("key")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("agent")
        monkeypatch.setenv("SSH_AUTH_SOCK", "agent")
        assert parse_agent("default") == AgentSource(id="default", socket=Path("agent"))
        assert parse_agent("x=agent") == AgentSource(id="x", socket=Path("agent"))
        keys = (Path("one"), Path("two"))
        assert parse_agent("x=one,two") == AgentSource(id="x", keys=keys)
        with pytest.raises(UsageError, match="not both"):
            parse_agent("x=agent,one")
    with pytest.raises(UsageError, match="no such file"):
        parse_agent("x=none")
    monkeypatch.delenv("SSH_AUTH_SOCK")
    with pytest.raises(UsageError, match="SSH_AUTH_SOCK"):
        parse_agent("default")


def test_named_contexts(tmp_path: Path) -> None:
    found = read_build_contexts(
        [
            f"dir={tmp_path}",
            f"context={tmp_path}",
            "img=docker-image://alpine",
            "repo=https://h/r.git#main",
        ]
    )
    assert found.folders == {"dir": tmp_path, "_context": tmp_path}
    assert found.options == {
        "context:dir": "local:dir",
        "context:context": "local:_context",
        "context:img": "docker-image://alpine",
        "context:repo": "https://h/r.git#main",
    }
    named = read_build_contexts([f"l=oci-layout://{tmp_path}@sha256:{0:064}"])
    assert named.layouts == {"l": tmp_path}
    assert named.options == {"context:l": f"oci-layout://l@sha256:{0:064}"}
    for wrong in ("x", "=y", "x=", "x=/no/such/folder", "x=oci-layout://y"):
        with pytest.raises(UsageError):
            read_build_contexts([wrong])
