"""Registries, reached as the daemon's configuration says, on behalf of a build's client."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Final

from torana.gateway.daemon.config import Config
from torana.gateway.session.auth import SessionAuth, Token, TokenRequest
from torana.plugins.registry.credentials import Credential
from torana.plugins.registry.settings import HostSettings, RegistrySettings, read_settings
from torana.plugins.registry.tokens import BearerToken, TokenQuery

_HUB: Final = "docker.io"
_HUB_SERVER: Final = "registry-1.docker.io"  # what clients know the credentials of
_EARLY_S: Final = 15.0  # before its end, a token is no longer handed on


def registry_settings(config: Config) -> RegistrySettings:
    """Give `[registry."HOST"]` of a daemon; without any, what its user has for other builds.

    Raises:
        InvalidRegistrySettingsError: the user's file is wrong.
    """
    if not config.registries:
        return read_settings()
    hosts = {
        host: HostSettings.make(
            mirrors=registry.mirrors,
            http=registry.http,
            insecure=registry.insecure,
            ca=registry.ca,
            keypairs=registry.keypairs,
            tls_folders=registry.tls_folders,
        )
        for host, registry in config.registries.items()
    }
    return RegistrySettings(hosts)


class SessionCredentials:
    """Asks a build's client who we are to a registry; made on the event loop, used in threads."""

    def __init__(self, auth: SessionAuth) -> None:
        self._auth = auth
        self._loop = asyncio.get_running_loop()

    def get(self, host: str) -> Credential | None:
        """Give what the client has for a host, None to be anonymous.

        Raises:
            ToranaError: the client failed to find out.
        """
        asking = asyncio.run_coroutine_threadsafe(self._auth.credentials(_server(host)), self._loop)
        found = asking.result()
        if found.username:
            return Credential(user=found.username, password=found.secret)
        return Credential(identity_token=found.secret) if found.secret else None


class TokenCache:
    """Tokens that clients have brought, by their authority: for those who prove to have it, too."""

    def __init__(self) -> None:
        self._tokens: dict[tuple[bytes, TokenQuery], tuple[BearerToken, float]] = {}

    def get(self, authority: bytes, query: TokenQuery) -> BearerToken | None:
        """Give a token that is good for a while."""
        token, until = self._tokens.get((authority, query), (None, 0.0))
        left_s = until - time.monotonic()
        return None if token is None or left_s < _EARLY_S else replace(token, lifetime_s=left_s)

    def put(self, authority: bytes, query: TokenQuery, token: BearerToken) -> None:
        now = time.monotonic()
        self._tokens = {key: kept for key, kept in self._tokens.items() if kept[1] > now}
        self._tokens[authority, query] = token, now + token.lifetime_s


class SessionTokens:
    """Has a build's client fetch tokens; made on the event loop, used in threads."""

    def __init__(self, auth: SessionAuth, cache: TokenCache) -> None:
        self._auth = auth
        self._cache = cache
        self._loop = asyncio.get_running_loop()

    def get(self, query: TokenQuery) -> BearerToken | None:
        """Give a token, None if the client leaves that to us.

        Raises:
            ToranaError: the client failed to get one.
        """
        return asyncio.run_coroutine_threadsafe(self._get(query), self._loop).result()

    async def _get(self, query: TokenQuery) -> BearerToken | None:
        host = _server(query.host)
        authority = await self._auth.token_authority(host)
        if authority is None:
            return None
        known = self._cache.get(authority, query)
        if known is not None and await self._auth.has_authority(host, authority):
            return known
        found = await self._auth.fetch_token(
            TokenRequest(host=host, realm=query.realm, service=query.service, scopes=query.scopes)
        )
        token = BearerToken(found.token, _seconds_left(found))
        self._cache.put(authority, query, token)
        return token


def _seconds_left(token: Token) -> float:
    age_s = max(time.time() - token.issued_at, 0.0) if token.issued_at else 0.0
    return max(token.expires_in_s - age_s, 0.0)


def _server(host: str) -> str:
    return _HUB_SERVER if host == _HUB else host
