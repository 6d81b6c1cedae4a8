"""`Pusher`: brings an image into a repository: blobs first, manifests last.

Blobs that the repository has are not sent. A body is read from its file, again for each attempt.

Spec: OCI distribution specification, Pushing.
"""

from __future__ import annotations

import threading
from typing import IO
from urllib.parse import quote, urljoin, urlsplit

from urllib3.exceptions import HTTPError

from torana.core.content.store import ContentStore
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.reference import ImageReference
from torana.plugins.registry.access import RegistryAccess
from torana.plugins.registry.connection import BROKEN, Pause, finish
from torana.plugins.registry.errors import (
    RegistryContentError,
    RegistryError,
    StoppedError,
)
from torana.plugins.registry.origin import OnBytes
from torana.plugins.registry.server import Server


class Pusher:
    """Pushes to the repository of one reference, until `stop` is set. Calls block."""

    def __init__(
        self,
        access: RegistryAccess,
        reference: ImageReference,
        content: ContentStore,
        stop: threading.Event | None = None,
    ) -> None:
        self._reference = reference
        self._content = content
        self.stop = stop or threading.Event()
        (endpoint,) = access.settings.endpoints(reference, for_push=True)
        self._servers = [
            Server(access, endpoint, scheme, self.stop, actions="pull,push")
            for scheme in endpoint.schemes
        ]

    def blob(self, blob: Descriptor, on_bytes: OnBytes = lambda count: None) -> None:
        """Bring one blob there, unless it is there.

        Raises:
            RegistryAuthError, RegistryError: the registry does not take it.
            NotFoundError: the blob is not here.
        """
        if not self._has(blob):
            self._upload(blob, on_bytes)

    def manifest(self, manifest: Descriptor, named: str) -> None:
        """Put a manifest or index under a tag or its own digest; all it names must be there.

        Raises:
            RegistryAuthError, RegistryError: the registry does not take it.
        """
        data = self._content.read(manifest.digest)
        server = self._server()
        url = server.url(self._reference, f"manifests/{named}")
        headers = {"Content-Type": manifest.media_type}
        response = server.request(
            "PUT", url, self._reference, named, headers, data, wanted=(200, 201)
        )
        finish(response)
        answered = response.headers.get("Docker-Content-Digest", "")
        if answered and answered != manifest.digest:
            raise RegistryContentError(
                f"{self._reference}: {server.endpoint.host} stored {answered}, not "
                f"{manifest.digest}"
            )

    def _server(self) -> Server:
        """Give the server by the scheme that works."""
        while len(self._servers) > 1:
            url = self._servers[0].url(self._reference, "tags/list")
            try:
                finish(self._servers[0].connection.request("GET", url, {}))
                break
            except RegistryError:
                del self._servers[0]
        return self._servers[0]

    def _has(self, blob: Descriptor) -> bool:
        server = self._server()
        url = server.url(self._reference, f"blobs/{blob.digest}")
        response = server.request("HEAD", url, self._reference, blob.digest, {}, wanted=(200, 404))
        finish(response)
        return response.status == 200

    def _upload(self, blob: Descriptor, on_bytes: OnBytes) -> None:
        server = self._server()
        pause = Pause(self.stop)
        while True:
            # Each attempt has a session of its own: what a broken one has is not known for sure.
            target = self._begin(server, blob)
            try:
                with self._content.open(blob.digest) as file:
                    body = _Body(file, self.stop, on_bytes)
                    headers = {
                        "Content-Type": "application/octet-stream",
                        "Content-Length": str(blob.size),
                    }
                    response = server.send(target, self._reference, blob.digest, headers, body)
                finish(response)
                return
            except HTTPError as err:
                if isinstance(err, BROKEN) and pause.wait():
                    continue
                raise server.broken(self._reference, blob.digest, err) from err

    def _begin(self, server: Server, blob: Descriptor) -> str:
        url = server.url(self._reference, "blobs/uploads/")
        headers = {"Content-Length": "0"}
        response = server.request(
            "POST", url, self._reference, blob.digest, headers, b"", wanted=(202,)
        )
        finish(response)
        location = urljoin(url, response.headers.get("Location", ""))
        if not urlsplit(location).path:
            raise RegistryError(f"{server.endpoint.host}: does not say where to upload to")
        joint = "&" if urlsplit(location).query else "?"
        return f"{location}{joint}digest={quote(blob.digest, safe='')}"


class _Body:
    """A file as the body of a request, which tells how far it is."""

    def __init__(self, file: IO[bytes], stop: threading.Event, on_bytes: OnBytes) -> None:
        self._file = file
        self._stop = stop
        self._on_bytes = on_bytes
        self._count = 0

    def read(self, size: int, /) -> bytes:
        if self._stop.is_set():
            raise StoppedError
        data = self._file.read(size)
        self._count += len(data)
        self._on_bytes(self._count)
        return data
