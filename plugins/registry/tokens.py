"""`fetch_token`: a bearer token from the server that a registry's challenge names.

Spec: Docker registry token authentication (GET with the scope as query, or POST of OAuth2 for an
identity token).
"""

from __future__ import annotations

import base64
import json
from dataclasses import field
from typing import Any, Final, Protocol
from urllib.parse import urlencode, urlsplit

import urllib3

from torana.core.records import dataclass
from torana.plugins.registry.connection import Connection
from torana.plugins.registry.credentials import Credential
from torana.plugins.registry.errors import RegistryAuthError, RegistryError

CLIENT_ID: Final = "torana"
_LIFETIME_S: Final = 60.0  # of tokens that do not say
_MAX_ANSWER: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenQuery:
    """What a challenge of `host` asks for."""

    host: str
    realm: str  # address of the token server
    service: str = ""
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BearerToken:
    """A token, and for how long it is good from now."""

    value: str = field(repr=False)
    lifetime_s: float = _LIFETIME_S


class Tokens(Protocol):
    """Somebody else who fetches tokens; may block."""

    def get(self, query: TokenQuery) -> BearerToken | None:
        """Give a token, None to leave it to the caller.

        Raises:
            ToranaError: it should have one, but failed to get it.
        """
        ...


def basic_header(credential: Credential) -> str:
    """Give the header of basic authentication."""
    text = f"{credential.user}:{credential.password}"
    return "Basic " + base64.b64encode(text.encode()).decode()


def fetch_token(
    connection: Connection,
    query: TokenQuery,
    credential: Credential | None,
    *,
    client_id: str = CLIENT_ID,
) -> BearerToken:
    """Ask the token server, as `credential` or anonymously. Blocks.

    Raises:
        RegistryAuthError: it does not give us one.
        RegistryError: it does not answer as it should.
    """
    if credential is not None and credential.identity_token:
        response = _ask_oauth(connection, query, credential, client_id)
    else:
        fields = [("service", query.service)] if query.service else []
        fields += [("scope", part) for part in query.scopes]
        headers = {} if credential is None else {"Authorization": basic_header(credential)}
        if credential is not None and credential.user:
            fields.append(("account", credential.user))
        joint = "&" if "?" in query.realm else "?"
        url = f"{query.realm}{joint}{urlencode(fields)}"
        response = connection.request("GET", url, headers)
    return _token(query, response, is_anonymous=credential is None)


def _ask_oauth(
    connection: Connection, query: TokenQuery, credential: Credential, client_id: str
) -> urllib3.BaseHTTPResponse:
    form = {
        "grant_type": "refresh_token",
        "refresh_token": credential.identity_token,
        "service": query.service,
        "client_id": client_id,
        "scope": " ".join(query.scopes),
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return connection.request("POST", query.realm, headers, urlencode(form).encode())


def _token(
    query: TokenQuery, response: urllib3.BaseHTTPResponse, *, is_anonymous: bool
) -> BearerToken:
    host, server = query.host, urlsplit(query.realm).netloc
    try:
        if response.status in (400, 401, 403):
            hint = f"log in: `docker login {host}`" if is_anonymous else "log in again"
            raise RegistryAuthError(f"{host}: {server} gives no token: access denied", hint=hint)
        if response.status != 200:
            raise RegistryError(f"{host}: {server} gives no token: status {response.status}")
        try:
            answer: Any = json.loads(response.read(_MAX_ANSWER, decode_content=True))
            token = str(answer.get("token") or answer["access_token"])
            lifetime_s = float(answer.get("expires_in") or _LIFETIME_S)
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            raise RegistryError(f"{host}: {server} gives no token that we understand") from None
        except urllib3.exceptions.HTTPError as err:
            raise RegistryError(f"{host}: {server} gives no token: {err}") from err
    finally:
        response.close()
    return BearerToken(token, lifetime_s)
