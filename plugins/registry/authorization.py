"""`Authorizer`: the `Authorization` header for a server, learnt from its challenges.

Spec: OCI distribution specification; Docker registry token authentication (GET with the scope as
query, or POST of OAuth2 for an identity token).
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import urllib3

from torana.plugins.registry.challenge import Challenge, parse_challenges
from torana.plugins.registry.connection import Connection
from torana.plugins.registry.credentials import Credential, Credentials
from torana.plugins.registry.errors import RegistryAuthError, RegistryError

_CLIENT_ID: Final = "torana"
_LIFETIME_S: Final = 60.0  # of tokens that do not say
_EARLY_S: Final = 10.0  # before its end, a token is no longer used
_MAX_ANSWER: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class _Header:
    value: str
    until: float  # of the monotonic clock


class Authorizer:
    """Headers by host and scope, shared by all callers of a process."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
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
        credential = self._credentials.get(host)
        for challenge in challenges:
            if challenge.scheme == "bearer":
                made = _bearer(connection, host, scope, challenge, credential)
                break
        else:
            if not any(challenge.scheme == "basic" for challenge in challenges):
                raise RegistryAuthError(f"{host}: access denied, and it does not say how to get in")
            if credential is None or credential.identity_token:
                raise RegistryAuthError(
                    f"{host}: authentication required", hint=f"log in: `docker login {host}`"
                )
            made = _Header(_basic(credential), float("inf"))
        with self._lock:
            self._headers[host, scope] = made

    def forget(self, host: str, scope: str) -> None:
        """Drop a header that was refused."""
        with self._lock:
            self._headers.pop((host, scope), None)


def _basic(credential: Credential) -> str:
    text = f"{credential.user}:{credential.password}"
    return "Basic " + base64.b64encode(text.encode()).decode()


def _bearer(
    connection: Connection,
    host: str,
    scope: str,
    challenge: Challenge,
    credential: Credential | None,
) -> _Header:
    realm = challenge.parameters.get("realm", "")
    if urlsplit(realm).scheme not in ("http", "https"):
        raise RegistryAuthError(f"{host}: its token server is no web address: `{realm}`")
    service = challenge.parameters.get("service", "")
    scopes = list(dict.fromkeys([*scope.split(), *challenge.parameters.get("scope", "").split()]))
    if credential is not None and credential.identity_token:
        response = _ask_oauth(connection, realm, service, scopes, credential)
    else:
        query = [("service", service)] if service else []
        query += [("scope", part) for part in scopes]
        headers = {} if credential is None else {"Authorization": _basic(credential)}
        if credential is not None and credential.user:
            query.append(("account", credential.user))
        joint = "&" if "?" in realm else "?"
        response = connection.request("GET", f"{realm}{joint}{urlencode(query)}", headers)
    return _token(host, realm, response, is_anonymous=credential is None)


def _ask_oauth(
    connection: Connection, realm: str, service: str, scopes: list[str], credential: Credential
) -> urllib3.BaseHTTPResponse:
    form = {
        "grant_type": "refresh_token",
        "refresh_token": credential.identity_token,
        "service": service,
        "client_id": _CLIENT_ID,
        "scope": " ".join(scopes),
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return connection.request("POST", realm, headers, urlencode(form).encode())


def _token(
    host: str, realm: str, response: urllib3.BaseHTTPResponse, *, is_anonymous: bool
) -> _Header:
    server = urlsplit(realm).netloc
    try:
        if response.status in (400, 401, 403):
            hint = f"log in: `docker login {host}`" if is_anonymous else "log in again"
            raise RegistryAuthError(f"{host}: {server} gives no token: access denied", hint=hint)
        if response.status != 200:
            raise RegistryError(f"{host}: {server} gives no token: status {response.status}")
        try:
            answer: Any = json.loads(response.read(_MAX_ANSWER, decode_content=True))
            token = answer.get("token") or answer["access_token"]
            lifetime_s = float(answer.get("expires_in") or _LIFETIME_S)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RegistryError(f"{host}: {server} gives no token that we understand") from None
        except urllib3.exceptions.HTTPError as err:
            raise RegistryError(f"{host}: {server} gives no token: {err}") from err
    finally:
        response.close()
    return _Header(f"Bearer {token}", time.monotonic() + max(lifetime_s - _EARLY_S, 5.0))
