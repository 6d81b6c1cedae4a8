"""`Authorizer`: the `Authorization` header for a server, learnt from its challenges.

Spec: OCI distribution specification.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import urllib3

from torana.core.records import dataclass
from torana.plugins.registry.challenge import Challenge, parse_challenges
from torana.plugins.registry.connection import Connection
from torana.plugins.registry.credentials import Credentials
from torana.plugins.registry.errors import RegistryAuthError
from torana.plugins.registry.tokens import TokenQuery, Tokens, basic_header, fetch_token

_EARLY_S: Final = 10.0  # before its end, a token is no longer used


@dataclass(frozen=True, slots=True)
class _Header:
    value: str
    until: float  # of the monotonic clock


class Authorizer:
    """Headers by host and scope, shared by all callers of a process.

    `tokens` are asked before credentials are: who has them may keep its passwords to itself.
    """

    def __init__(self, credentials: Credentials, tokens: Tokens | None = None) -> None:
        self._credentials = credentials
        self._tokens = tokens
        self._lock = threading.Lock()
        self._headers: dict[tuple[str, str], _Header] = {}

    def header(self, host: str, scope: str) -> Mapping[str, str]:
        """Give the header that worked last, nothing if none is known or it is too old.

        `scope` is one, or several with blanks between them.
        """
        with self._lock:
            known = self._headers.get((host, scope))
        if known is None or known.until < time.monotonic():
            return {}
        return {"Authorization": known.value}

    def answer(
        self,
        connection: Connection,
        host: str,
        scope: str,
        refused: urllib3.BaseHTTPResponse,
    ) -> None:
        """Learn the header from an answer 401.

        Raises:
            RegistryAuthError: the server wants what we do not have.
        """
        challenges = parse_challenges(refused.headers.getlist("WWW-Authenticate"))
        for challenge in challenges:
            if challenge.scheme == "bearer":
                made = self._bearer(connection, _query(host, scope, challenge))
                break
        else:
            made = self._basic(host, challenges)
        with self._lock:
            self._headers[host, scope] = made

    def forget(self, host: str, scope: str) -> None:
        """Drop a header that was refused."""
        with self._lock:
            self._headers.pop((host, scope), None)

    def _basic(self, host: str, challenges: list[Challenge]) -> _Header:
        if not any(challenge.scheme == "basic" for challenge in challenges):
            raise RegistryAuthError(f"{host}: access denied, and it does not say how to get in")
        credential = self._credentials.get(host)
        if credential is None or credential.identity_token:
            raise RegistryAuthError(
                f"{host}: authentication required", hint=f"log in: `docker login {host}`"
            )
        return _Header(basic_header(credential), float("inf"))

    def _bearer(self, connection: Connection, query: TokenQuery) -> _Header:
        token = None if self._tokens is None else self._tokens.get(query)
        if token is None:
            token = fetch_token(connection, query, self._credentials.get(query.host))
        until = time.monotonic() + max(token.lifetime_s - _EARLY_S, 5.0)
        return _Header(f"Bearer {token.value}", until)


def _query(host: str, scope: str, challenge: Challenge) -> TokenQuery:
    realm = challenge.parameters.get("realm", "")
    if urlsplit(realm).scheme not in ("http", "https"):
        raise RegistryAuthError(f"{host}: its token server is no web address: `{realm}`")
    scopes = dict.fromkeys([*scope.split(), *challenge.parameters.get("scope", "").split()])
    service = challenge.parameters.get("service", "")
    return TokenQuery(host=host, realm=realm, service=service, scopes=tuple(scopes))
