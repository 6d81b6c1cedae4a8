"""Docker's config.json and its helpers."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from torana.plugins.registry.credentials import Credential, DockerCredentials
from torana.plugins.registry.errors import RegistryAuthError


def credentials(tmp_path: Path, config: Any) -> DockerCredentials:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    return DockerCredentials(file)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("example.org:5000", "example.org:5000"),
        ("example.org", "https://example.org/v1/"),
        ("docker.io", "https://index.docker.io/v1/"),
    ],
)
def test_auths(tmp_path: Path, host: str, key: str) -> None:
    found = credentials(tmp_path, {"auths": {key: {"auth": encoded("me:p:w")}}})
    assert found.get(host) == Credential("me", "p:w")
    assert found.get("other.example") is None


def test_forms_of_entries(tmp_path: Path) -> None:
    auths = {
        "plain": {"username": "u", "password": "p"},
        "token": {"identitytoken": "t"},
        "empty": {},
        "bad": {"auth": "%%%"},
        "half": {"auth": encoded("nobody")},
    }
    found = credentials(tmp_path, {"auths": auths})
    assert found.get("plain") == Credential("u", "p")
    assert found.get("token") == Credential(identity_token="t")
    assert found.get("empty") is None
    for host in ("bad", "half"):
        with pytest.raises(RegistryAuthError, match=host):
            found.get(host)


def test_no_file_is_nobody(tmp_path: Path) -> None:
    assert DockerCredentials(tmp_path / "none" / "config.json").get("a") is None
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RegistryAuthError, match="cannot be read"):
        DockerCredentials(tmp_path / "config.json").get("a")


def test_secrets_are_not_shown() -> None:
    assert "hush" not in repr(Credential("me", "hush", "hush"))


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A helper that knows `known.example` and breaks for `broken.example`."""
    program = tmp_path / "docker-credential-test"
    program.write_text(
        "#!/bin/sh\nread server\n"
        'case "$1 $server" in\n'
        '"get known.example") echo \'{"ServerURL":"x","Username":"me","Secret":"s"}\';;\n'
        '"get token.example") echo \'{"Username":"<token>","Secret":"t"}\';;\n'
        '"get broken.example") echo oh dear; exit 1;;\n'
        '"get odd.example") echo "{}";;\n'
        "*) echo credentials not found in native keychain; exit 1;;\n"
        "esac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return program


@pytest.mark.parametrize("config", [{"credsStore": "test"}, {"credHelpers": None}])
def test_helpers(tmp_path: Path, helper: Path, config: dict[str, Any]) -> None:
    hosts = ("known.example", "token.example", "broken.example", "odd.example", "none.example")
    if "credHelpers" in config:
        config = {"credHelpers": dict.fromkeys(hosts, "test")}
    config["auths"] = {"fallback.example": {"auth": encoded("a:b")}}
    found = credentials(tmp_path, config)
    assert found.get("known.example") == Credential("me", "s")
    assert found.get("token.example") == Credential(identity_token="t")
    assert found.get("none.example") is None
    assert found.get("fallback.example") == Credential("a", "b")
    with pytest.raises(RegistryAuthError, match="oh dear"):
        found.get("broken.example")
    with pytest.raises(RegistryAuthError, match="gave no credential"):
        found.get("odd.example")


def test_a_missing_helper_is_named(tmp_path: Path) -> None:
    with pytest.raises(RegistryAuthError, match="docker-credential-absent"):
        credentials(tmp_path, {"credsStore": "absent"}).get("a")
