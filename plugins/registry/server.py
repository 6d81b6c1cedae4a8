"""`Server`: requests for one repository at one endpoint, with credentials where they are wanted."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping

import urllib3
from urllib3.exceptions import HTTPError

from torana.core.errors import ToranaError
from torana.core.oci.reference import ImageReference
from torana.plugins.registry.access import RegistryAccess
from torana.plugins.registry.connection import Body, Connection, describe, finish, is_same_origin
from torana.plugins.registry.errors import (
    RegistryAuthError,
    RegistryError,
    RegistryNotFoundError,
)
from torana.plugins.registry.settings import Endpoint


class Server:
    """One endpoint, by one scheme; tokens are asked for with `actions`, such as `pull,push`."""

    def __init__(
        self,
        access: RegistryAccess,
        endpoint: Endpoint,
        scheme: str,
        stop: threading.Event,
        *,
        actions: str = "pull",
    ) -> None:
        self.endpoint = endpoint
        self._scheme = scheme
        self._actions = actions
        self._authorizer = access.authorizer
        self.connection = Connection(access.pools, endpoint.settings, stop)

    def url(self, reference: ImageReference, path: str) -> str:
        return self.endpoint.url(self._scheme, f"{reference.path}/{path}")

    def request(
        self,
        method: str,
        url: str,
        reference: ImageReference,
        named: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        wanted: tuple[int, ...] = (200, 206),
        borrowed: str = "",
    ) -> urllib3.BaseHTTPResponse:
        """Send a request, with credentials if they are wanted; gives an answer that is `wanted`.

        `named` is the tag or digest that it is about, `borrowed` another repository to read from.

        Raises:
            RegistryNotFoundError, RegistryAuthError, RegistryError: another answer, or none.
        """
        host = self.endpoint.host
        what = self._what(reference, named)
        scope = self._scope(reference)
        if borrowed:
            scope = f"{scope} repository:{borrowed}:pull"
        for attempt in range(3):
            known = self._authorizer.header(host, scope) if self._is_own(url, reference) else {}
            try:
                response = self.connection.request(method, url, {**headers, **known}, body)
            except RegistryError as err:
                raise type(err)(f"{what}: {err.message}", hint=err.hint) from err
            if response.status != 401 or attempt == 2 or not self._is_own(url, reference):
                break
            finish(response)
            if known and attempt:
                self._authorizer.forget(host, scope)
                break
            self._learn(scope, response, what)
        if response.status in wanted:
            return response
        try:
            raise self.refused(response, reference, named)
        finally:
            response.close()

    def send(
        self,
        method: str,
        url: str,
        reference: ImageReference,
        headers: Mapping[str, str],
        body: Body | None,
    ) -> urllib3.BaseHTTPResponse:
        """Send a body to where an upload has begun, once; gives any answer.

        Raises:
            HTTPError: the connection broke.
        """
        known: Mapping[str, str] = {}
        if self._is_own(url, reference):  # some registries take blobs elsewhere
            known = self._authorizer.header(self.endpoint.host, self._scope(reference))
        return self.connection.send(method, url, {**headers, **known}, body)

    def renew(
        self, response: urllib3.BaseHTTPResponse, url: str, reference: ImageReference
    ) -> bool:
        """Learn from an answer 401 to `send`, after which it may be tried again.

        Says whether that is so: it is not where blobs are taken elsewhere.

        Raises:
            RegistryAuthError, RegistryError: there are no credentials to try it with.
        """
        if not self._is_own(url, reference):
            return False
        self._learn(self._scope(reference), response, reference.name)
        return True

    def _learn(self, scope: str, refused: urllib3.BaseHTTPResponse, what: str) -> None:
        try:
            self._authorizer.answer(self.connection, self.endpoint.host, scope, refused)
        except (RegistryAuthError, RegistryError) as err:
            raise type(err)(f"{what}: {err.message}", hint=err.hint) from err

    def _is_own(self, url: str, reference: ImageReference) -> bool:
        """Say whether a URL is of this server: no other gets our credentials."""
        return is_same_origin(url, self.url(reference, ""))

    def _scope(self, reference: ImageReference) -> str:
        return f"repository:{self.endpoint.prefix}{reference.path}:{self._actions}"

    def refused(
        self, response: urllib3.BaseHTTPResponse, reference: ImageReference, named: str
    ) -> ToranaError:
        """Give the error for an answer that is no use; reads its body."""
        what = self._what(reference, named)
        if reference.domain != self.endpoint.host:
            what = f"{what} at {self.endpoint.host}"
        details = _details(response)
        match response.status:
            case 404:
                return RegistryNotFoundError(
                    f"{what}: not found", hint="check its spelling, or log in if it is private"
                )
            case 401 | 403:
                return RegistryAuthError(
                    f"{what}: access denied{details}",
                    hint=f"log in: `docker login {reference.domain}`",
                )
            case 429:
                return RegistryError(
                    f"{what}: too many requests{details}", hint="log in, or try again later"
                )
        hint = None
        if response.status == 400 and self._scheme == "http":
            host = self.endpoint.host
            hint = f'for https: `http = false` under [registry."{host}"] in registries.toml'
        text = f"{what}: {self.endpoint.host} answers {response.status}{details}"
        return RegistryError(text, hint=hint)

    @staticmethod
    def _what(reference: ImageReference, named: str) -> str:
        joint = "@" if ":" in named else ":"
        return f"{reference.name}{joint}{named}"

    def broken(self, reference: ImageReference, named: str, err: HTTPError) -> RegistryError:
        """Give the error for a connection that broke for good."""
        return RegistryError(
            f"{self._what(reference, named)}: the connection to {self.endpoint.host} broke: "
            f"{describe(err)}"
        )


def _details(response: urllib3.BaseHTTPResponse) -> str:
    """Give what a registry says about an error, in its own form or as plain text."""
    try:
        body = response.read(1 << 16, decode_content=True)
    except HTTPError:
        return ""
    try:
        errors = json.loads(body)["errors"]
        said = [str(error.get("message") or error.get("code")) for error in errors]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        is_text = response.headers.get("Content-Type", "text/plain").startswith("text/plain")
        said = body.decode("utf-8", "replace").splitlines()[:1] if is_text else []
    shown = "; ".join(said)[:300]
    return f": {shown}" if shown.isprintable() and shown else ""
