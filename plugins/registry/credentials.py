"""`DockerCredentials`: who we are to a registry, from Docker's configuration.

`config.json` says it itself (`auths`), or names a helper program for one host (`credHelpers`) or
for all (`credsStore`). Nothing read here is ever logged or stored.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Final, Protocol

from torana.core.records import dataclass
from torana.plugins.registry.errors import RegistryAuthError

_HUB: Final = "docker.io"
_HUB_KEYS: Final = ("https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io", _HUB)
_HELPER_TIMEOUT_S: Final = 30.0
_TOKEN_USER: Final = "<token>"
_UNKNOWN: Final = "credentials not found"


@dataclass(frozen=True, slots=True)
class Credential:
    """A user with a password, or an identity token of an OAuth2 server."""

    user: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


class Credentials(Protocol):
    """Says who we are to a host; may block."""

    def get(self, host: str) -> Credential | None:
        """Give the credential, None to be anonymous.

        Raises:
            RegistryAuthError: there is one, but it cannot be had.
        """
        ...


def config_folder() -> Path:
    """Give the folder of Docker's configuration."""
    return Path(os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker"))


class NoCredentials:
    """Anonymous everywhere."""

    def get(self, host: str) -> Credential | None:
        return None


class DockerCredentials:
    """Reads `config.json` on each call: a `docker login` meanwhile counts."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file or config_folder() / "config.json"

    def get(self, host: str) -> Credential | None:
        try:
            config = json.loads(self._file.read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as err:
            raise RegistryAuthError(f"{self._file}: cannot be read: {err}") from err
        if not isinstance(config, dict):
            raise RegistryAuthError(f"{self._file}: must be a JSON object")
        names = _HUB_KEYS if host == _HUB else (host, f"https://{host}", f"http://{host}")
        helpers = config.get("credHelpers") or {}
        for name in names:
            if name in helpers:
                return _from_helper(helpers[name], name)
        if store := config.get("credsStore"):
            found = _from_helper(store, names[0])
            if found is not None:
                return found
        return self._from_auths(config.get("auths") or {}, names)

    def _from_auths(self, auths: Mapping[str, Any], names: tuple[str, ...]) -> Credential | None:
        for key, entry in auths.items():
            if key in names or _host_of(key) in names:
                try:
                    found = _decode(entry or {})
                except (ValueError, AttributeError, binascii.Error) as err:
                    raise RegistryAuthError(f"{self._file}: malformed `auth` of {key}") from err
                if found is not None:
                    return found
        return None


def _host_of(key: str) -> str:
    """Give the host of a key as old versions of docker wrote it, `https://HOST/v1/`."""
    return key.partition("://")[2 if "://" in key else 0].partition("/")[0]


def _decode(entry: Mapping[str, Any]) -> Credential | None:
    if token := entry.get("identitytoken"):
        return Credential(identity_token=token)
    user, password = entry.get("username", ""), entry.get("password", "")
    if encoded := entry.get("auth"):
        user, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        if not colon:
            raise ValueError("no colon")
        password = password.rstrip("\0")
    return Credential(user, password) if user or password else None


def _from_helper(name: str, server: str) -> Credential | None:
    """Ask `docker-credential-NAME get`: the server on its input, JSON on its output."""
    program = f"docker-credential-{name}"
    try:
        done = subprocess.run(
            [program, "get"],
            input=server.encode(),
            capture_output=True,
            timeout=_HELPER_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        raise RegistryAuthError(
            f"credential helper is not on PATH: `{program}`",
            hint="install it, or remove it from docker's config.json",
        ) from None
    except (OSError, subprocess.TimeoutExpired) as err:
        raise RegistryAuthError(f"credential helper failed: `{program}`: {err}") from None
    if done.returncode:
        # Helpers say on their output what is wrong.
        text = (done.stdout + b" " + done.stderr).decode(errors="replace").strip()
        if _UNKNOWN in text.lower():
            return None
        raise RegistryAuthError(f"credential helper failed: `{program}`: {text[:300]}")
    try:
        raw = json.loads(done.stdout)
        user, secret = str(raw["Username"]), str(raw["Secret"])
    except (ValueError, KeyError, TypeError):
        raise RegistryAuthError(f"credential helper gave no credential: `{program}`") from None
    if user == _TOKEN_USER:
        return Credential(identity_token=secret)
    return Credential(user, secret)
