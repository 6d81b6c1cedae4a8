"""What a daemon may ask about registries: Docker's credentials, or only tokens made with them.

Spec: wire reference, session, Auth.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from torana.gateway.session.auth import Auth, Credentials, Token, TokenRequest
from torana.plugins.registry.access import default_access
from torana.plugins.registry.connection import Connection
from torana.plugins.registry.credentials import Credential, config_folder
from torana.plugins.registry.threads import run_network
from torana.plugins.registry.tokens import TokenQuery, fetch_token

_NO_TOKENS: Final = "BUILDKIT_NO_CLIENT_TOKEN"
_HUB: Final = "docker.io"
_HUB_SERVER: Final = "registry-1.docker.io"  # what daemons call it
_SEED_BYTES: Final = 32


def registry_auth() -> Auth:
    """Give the service; with `BUILDKIT_NO_CLIENT_TOKEN` the daemon fetches its tokens itself."""
    if os.environ.get(_NO_TOKENS, "") not in ("", "0", "false"):
        return Auth(DockerStore())
    seeds = Seeds(config_folder() / ".torana_token_seed")
    return Auth(DockerStore(), fetch_token=_fetch, seed=seeds.get)


class DockerStore:
    """Credentials as `docker login` keeps them."""

    async def credentials(self, host: str) -> Credentials:
        """Give what there is for a host; nothing where there is none.

        Raises:
            RegistryAuthError: there is something, but it cannot be had.
        """
        found = await run_network(threading.Event(), lambda: _known(host))
        if found is None:
            return Credentials()
        return Credentials(found.user, found.identity_token or found.password)


def _known(host: str) -> Credential | None:
    return default_access().credentials.get(_HUB if host == _HUB_SERVER else host)


async def _fetch(request: TokenRequest, credentials: Credentials) -> Token:
    """Get a token from the server that the daemon was sent to."""
    stop = threading.Event()
    settings = default_access().settings.host(urlsplit(request.realm).netloc)
    connection = Connection(default_access().pools, settings, stop)
    query = TokenQuery(
        host=request.host, realm=request.realm, service=request.service, scopes=request.scopes
    )
    known: Credential | None = None
    if credentials.username:
        known = Credential(credentials.username, credentials.secret)
    elif credentials.secret:
        known = Credential(identity_token=credentials.secret)
    found = await run_network(
        stop, lambda: fetch_token(connection, query, known, client_id=request.client_id)
    )
    return Token(token=found.value, expires_in_s=int(found.lifetime_s), issued_at=int(time.time()))


class Seeds:
    """Secret bytes per host, made of one secret of this user that is kept in `file`.

    Where it cannot be kept, each command has its own: then no other build gets its tokens.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._secret = b""

    def get(self, host: str) -> bytes:
        """Give 16 bytes."""
        if not self._secret:
            self._secret = self._read() or self._write(secrets.token_bytes(_SEED_BYTES))
        return hmac.new(self._secret, host.encode(), hashlib.sha256).digest()[:16]

    def _read(self) -> bytes:
        try:
            found = self._file.read_bytes()
        except OSError:
            return b""
        return found if len(found) == _SEED_BYTES else b""

    def _write(self, secret: bytes) -> bytes:
        """Keep it, unless somebody else was faster; gives the one that counts."""
        temporary = self._file.with_name(f".{self._file.name}.{os.getpid()}.part")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secret)
            with suppress(FileExistsError):
                os.link(temporary, self._file)
        except OSError:
            return secret
        finally:
            with suppress(OSError):
                temporary.unlink()
        return self._read() or secret
