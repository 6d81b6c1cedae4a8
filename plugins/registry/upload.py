"""`Upload`: one blob on its way into a repository.

It goes in one piece. Where that breaks twice or is too large for the server, it goes in chunks, and
each begins where the server says that it stopped. A blob that another repository of the server has
is mounted from there, and not sent.

Spec: OCI distribution specification, Pushing blobs.
"""

from __future__ import annotations

import re
import threading
from typing import IO, Final
from urllib.parse import quote, urlencode, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from torana.core.content.store import ContentStore
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.layertypes import SOURCE_ANNOTATION
from torana.core.oci.reference import ImageReference
from torana.plugins.registry.connection import AGAIN, BROKEN, Pause, finish
from torana.plugins.registry.errors import (
    RegistryAuthError,
    RegistryError,
    RegistryNotFoundError,
    StoppedError,
)
from torana.plugins.registry.origin import OnBytes
from torana.plugins.registry.server import Server

_CHUNK: Final = 16 << 20  # bytes; servers may ask for more
_WHOLE_ATTEMPTS: Final = 2  # before a large blob goes in chunks
_TOO_LARGE: Final = 413
_UNAUTHORIZED: Final = 401  # nothing was taken


class Upload:
    """Sends `blob` to the repository of `reference`. Calls block."""

    def __init__(
        self,
        server: Server,
        reference: ImageReference,
        blob: Descriptor,
        content: ContentStore,
        on_bytes: OnBytes,
    ) -> None:
        self._server = server
        self._reference = reference
        self._blob = blob
        self._content = content
        self._on_bytes = on_bytes
        self._stop = server.connection.stop
        self._chunk = _CHUNK
        self._is_renewed = False  # our token, just before the present request

    def run(self) -> None:
        """Bring the blob there.

        Raises:
            RegistryAuthError, RegistryError: the registry does not take it.
            NotFoundError: the blob is not here.
        """
        session = self._mounted()
        if session is None:
            return
        pause = Pause(self._stop)
        while True:
            session = session or self._begin()
            status, again = self._whole(session, pause)
            if status in (201, 204):
                return
            if status != _UNAUTHORIZED:
                # What a broken session has is not known for sure: the next one begins anew.
                session = ""
            is_large = self._blob.size > self._chunk
            if status == _TOO_LARGE or (is_large and pause.attempts >= _WHOLE_ATTEMPTS):
                self._in_chunks(pause)
                return
            if not again:
                raise self._refusal

    def mount(self) -> bool:
        """Take the blob from another repository; says whether that worked."""
        return self._mounted() is None

    # In one piece

    def _whole(self, session: str, pause: Pause) -> tuple[int, bool]:
        """Try once; gives the status (0: the connection broke) and whether to try again."""
        with self._content.open(self._blob.digest) as file:
            body = _Body(file, self._blob.size, self._stop, self._on_bytes, 0)
            return self._put(session, body, self._blob.size, pause)

    def _put(self, session: str, body: _Body | None, size: int, pause: Pause) -> tuple[int, bool]:
        joint = "&" if urlsplit(session).query else "?"
        url = f"{session}{joint}digest={quote(self._blob.digest, safe='')}"
        response = self._send("PUT", url, body, size, {}, pause)
        if response is None:
            return 0, True
        status = response.status
        if status in (201, 204):
            finish(response)
            return status, False
        return status, self._refused(response, url, pause)

    def _send(
        self,
        method: str,
        url: str,
        body: _Body | None,
        size: int,
        headers: dict[str, str],
        pause: Pause,
    ) -> urllib3.BaseHTTPResponse | None:
        """Send a body; None if the connection broke and it may be tried again."""
        headers = {
            **headers,
            "Content-Type": "application/octet-stream",
            "Content-Length": str(size),
        }
        try:
            return self._server.send(method, url, self._reference, headers, body)
        except HTTPError as err:
            if isinstance(err, BROKEN) and pause.wait():
                return None
            raise self._server.broken(self._reference, self._blob.digest, err) from err

    def _refused(self, response: urllib3.BaseHTTPResponse, url: str, pause: Pause) -> bool:
        """Keep what a refusal says, and say whether another attempt may help.

        Tokens may end while a blob is sent: once, a new one is fetched.
        """
        try:
            if response.status == _UNAUTHORIZED and not self._is_renewed:
                self._is_renewed = True
                if self._server.renew(response, url, self._reference):
                    return True
            self._is_renewed = False
            self._refusal = self._server.refused(response, self._reference, self._blob.digest)
        finally:
            response.close()
        return response.status in AGAIN and pause.wait(response.headers.get("Retry-After", ""))

    # In chunks

    def _in_chunks(self, pause: Pause) -> None:
        pause.attempts = 0
        session, start = self._begin(), 0
        with self._content.open(self._blob.digest) as file:
            while start < self._blob.size:
                end = min(start + self._chunk, self._blob.size)
                file.seek(start)
                body = _Body(file, end - start, self._stop, self._on_bytes, start)
                headers = {"Content-Range": f"{start}-{end - 1}"}
                response = self._send("PATCH", session, body, end - start, headers, pause)
                if response is not None and response.status in (202, 204):
                    session, start = self._next(session, response, end)
                    pause.attempts = 0
                    self._is_renewed = False
                    continue
                if response is not None and response.status != 416:
                    if not self._refused(response, session, pause):
                        raise self._refusal
                    if response.status == _UNAUTHORIZED:
                        continue
                elif response is not None:
                    finish(response)
                    if not pause.wait():
                        raise RegistryError(f"{self._host}: takes no part of {self._blob.digest}")
                session, start = self._where(session)
        while True:
            status, again = self._put(session, None, 0, pause)
            if status in (201, 204):
                return
            if not again:
                raise self._refusal

    def _next(self, session: str, response: urllib3.BaseHTTPResponse, sent: int) -> tuple[str, int]:
        """Give where to send to and from where on, after a chunk or a question."""
        finish(response)
        location = urljoin(session, response.headers.get("Location", ""))
        match = re.fullmatch(r"(?:bytes=)?0-(\d+)", response.headers.get("Range", ""))
        return location, min(int(match[1]) + 1, self._blob.size) if match else sent

    def _where(self, session: str) -> tuple[str, int]:
        """Ask how much of the blob is there; a session that is gone begins anew."""
        response = self._server.request(
            "GET", session, self._reference, self._blob.digest, {}, wanted=(200, 204, 404)
        )
        if response.status == 404:
            finish(response)
            return self._begin(), 0
        return self._next(session, response, 0)

    # Sessions

    @property
    def _host(self) -> str:
        return self._server.endpoint.host

    def _mounted(self) -> str | None:
        """Take the blob from another repository: None if that worked, else a session or ``""``."""
        known = self._blob.annotations.get(SOURCE_ANNOTATION + self._host, "")
        for repository in filter(None, known.split(",")):
            if repository == self._reference.path:
                continue
            query = urlencode({"mount": self._blob.digest, "from": repository})
            try:
                response = self._ask_session(f"?{query}", (201, 202), borrowed=repository)
            except (RegistryAuthError, RegistryNotFoundError, RegistryError):
                continue  # it is sent, then
            if response.status == 201:
                return None
            return self._location(response)
        return ""

    def _begin(self) -> str:
        return self._location(self._ask_session("", (202,)))

    def _ask_session(
        self, query: str, wanted: tuple[int, ...], *, borrowed: str = ""
    ) -> urllib3.BaseHTTPResponse:
        url = self._server.url(self._reference, "blobs/uploads/") + query
        response = self._server.request(
            "POST",
            url,
            self._reference,
            self._blob.digest,
            {"Content-Length": "0"},
            b"",
            wanted=wanted,
            borrowed=borrowed,
        )
        finish(response)
        least = response.headers.get("OCI-Chunk-Min-Length", "")
        if least.isdecimal():
            self._chunk = max(_CHUNK, int(least))
        return response

    def _location(self, response: urllib3.BaseHTTPResponse) -> str:
        url = self._server.url(self._reference, "blobs/uploads/")
        location = urljoin(url, response.headers.get("Location", ""))
        if not urlsplit(location).path:
            raise RegistryError(f"{self._host}: does not say where to upload to")
        return location


class _Body:
    """Part of a file as the body of a request, which tells how far it is."""

    def __init__(
        self, file: IO[bytes], size: int, stop: threading.Event, on_bytes: OnBytes, before: int
    ) -> None:
        self._file = file
        self._left = size
        self._stop = stop
        self._on_bytes = on_bytes
        self._count = before  # of the blob

    def read(self, size: int, /) -> bytes:
        if self._stop.is_set():
            raise StoppedError
        data = self._file.read(min(size, self._left))
        self._left -= len(data)
        self._count += len(data)
        self._on_bytes(self._count)
        return data
