"""`RegistryClient`: manifests and blobs of repositories.

Mirrors are asked first, in order; what one does not have or gives wrong, the next is asked for.
The last server is the host itself, and its error is the one that is told.

Spec: OCI distribution specification, Pulling; Docker Registry HTTP API V2.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

import urllib3
from urllib3.exceptions import HTTPError

from torana.core.content.store import BlobWriter, ContentStore
from torana.core.errors import CorruptError, ToranaError, UnsupportedError
from torana.core.oci import image as oci
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest, InvalidDigestError
from torana.core.oci.reference import ImageReference
from torana.plugins.registry.access import RegistryAccess
from torana.plugins.registry.connection import (
    BROKEN,
    Pace,
    Pause,
    finish,
)
from torana.plugins.registry.errors import (
    RegistryContentError,
    RegistryError,
    RegistryUnreachableError,
    StoppedError,
)
from torana.plugins.registry.origin import OCTETS, OnBytes
from torana.plugins.registry.referrers import referrers
from torana.plugins.registry.server import Server

ACCEPT: Final = ", ".join(
    (oci.OCI_INDEX, oci.OCI_MANIFEST, oci.DOCKER_INDEX, oci.DOCKER_MANIFEST, "*/*")
)
MAX_MANIFEST: Final = 4 << 20
_CHUNK: Final = 1 << 18
_PROGRESS: Final = 1 << 16  # bytes of a blob, after which a break does not count any more
_DIGEST: Final = "Docker-Content-Digest"

T = TypeVar("T")


class RegistryClient:
    """Asks for one caller, until `stop` is set. Calls block."""

    def __init__(self, access: RegistryAccess, stop: threading.Event | None = None) -> None:
        self._access = access
        self.stop = stop or threading.Event()

    def resolve(self, reference: ImageReference) -> Descriptor:
        """Find what a reference stands for now, by tag or digest. Its size may not be known (0).

        Raises:
            RegistryNotFoundError: there is no such repository, tag or digest.
            RegistryAuthError, RegistryError: there is no way to find out.
        """
        return self._ask(reference, lambda server: server.resolve(reference))

    def manifest(self, reference: ImageReference, digest: Digest) -> tuple[str, bytes]:
        """Fetch a manifest or index, checked; gives its media type, too.

        Raises:
            RegistryNotFoundError, RegistryAuthError, RegistryError: it cannot be had.
            RegistryContentError: it is not what the digest names.
        """
        return self._ask(reference, lambda server: server.manifest(reference, digest))

    def find_blob(self, reference: ImageReference, digest: Digest) -> Descriptor:
        """Find out how large a blob is.

        Raises:
            RegistryNotFoundError, RegistryAuthError, RegistryError: it is not there.
        """
        return self._ask(reference, lambda server: server.find_blob(reference, digest))

    def fetch(
        self,
        reference: ImageReference,
        blob: Descriptor,
        content: ContentStore,
        on_bytes: OnBytes = lambda count: None,
    ) -> None:
        """Bring a blob of a repository into the store, unless it is there.

        A download that breaks off goes on where it stopped. Digest and size are checked while it
        passes; what is wrong is thrown away.

        Raises:
            RegistryNotFoundError, RegistryAuthError, RegistryError: it cannot be had.
            RegistryContentError: it is not what the descriptor says.
        """
        if blob.digest.algorithm != "sha256":
            raise UnsupportedError(f"{reference.name}: blobs must have sha256: {blob.digest}")
        if not content.exists(blob.digest):
            self._ask(reference, lambda server: server.fetch(reference, blob, content, on_bytes))

    def referrers(
        self, reference: ImageReference, subject: Digest, artifact_type: str = ""
    ) -> list[Descriptor]:
        """List manifests that say something about `subject`, all or those of one type.

        Raises:
            RegistryAuthError, RegistryError: there is no way to find out.
        """
        return self._ask(
            reference, lambda server: referrers(server, reference, subject, artifact_type)
        )

    def _ask(self, reference: ImageReference, ask: Callable[[_Puller], T]) -> T:
        error: ToranaError | None = None
        for endpoint in self._access.settings.endpoints(reference):
            for scheme in endpoint.schemes:
                try:
                    return ask(_Puller(self._access, endpoint, scheme, self.stop))
                except ToranaError as err:
                    error = err
                    # Who has answered is not asked in another scheme, with credentials in clear.
                    if not isinstance(err, RegistryUnreachableError):
                        break
        assert error is not None
        raise error


class _Puller(Server):
    """What pulling asks one endpoint for."""

    def resolve(self, reference: ImageReference) -> Descriptor:
        named = str(reference.digest or reference.tag)
        url = self.url(reference, f"manifests/{named}")
        response = self.request("HEAD", url, reference, named, {"Accept": ACCEPT})
        finish(response)
        text = response.headers.get(_DIGEST, "")
        if not text and reference.digest is None:
            return self._resolve_by_content(reference, url)
        digest = self._digest(text) if text else reference.digest
        assert digest is not None
        if reference.digest is not None and digest != reference.digest:
            raise RegistryContentError(
                f"{self.endpoint.host}: answers with {digest}: {reference.name}@{reference.digest}"
            )
        length = response.headers.get("Content-Length", "")
        return Descriptor(
            media_type=_media_type(response),
            digest=digest,
            size=int(length) if length.isdecimal() else 0,
        )

    def find_blob(self, reference: ImageReference, digest: Digest) -> Descriptor:
        url = self.url(reference, f"blobs/{digest}")
        headers = {"Accept-Encoding": "identity"}
        response = self.request("HEAD", url, reference, digest, headers)
        finish(response)
        length = response.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise RegistryError(f"{self.endpoint.host}: does not say how large it is: {digest}")
        return Descriptor(media_type=OCTETS, digest=digest, size=int(length))

    def _resolve_by_content(self, reference: ImageReference, url: str) -> Descriptor:
        """For servers that do not name the digest."""
        media_type, data = self._read(url, reference, reference.tag)
        return Descriptor(media_type=media_type, digest=Digest.of(data), size=len(data))

    def _digest(self, text: str) -> Digest:
        try:
            return Digest.parse(text)
        except InvalidDigestError:
            raise RegistryError(f"{self.endpoint.host}: malformed digest: `{text}`") from None

    def manifest(self, reference: ImageReference, digest: Digest) -> tuple[str, bytes]:
        url = self.url(reference, f"manifests/{digest}")
        media_type, data = self._read(url, reference, digest)
        if Digest.of(data) != digest:
            raise RegistryContentError(
                f"{self.endpoint.host}: manifest of {reference.name} has digest "
                f"{Digest.of(data)}, expected {digest}"
            )
        return media_type, data

    def _read(self, url: str, reference: ImageReference, named: str) -> tuple[str, bytes]:
        pause = Pause(self.connection.stop)
        while True:
            response = self.request("GET", url, reference, named, {"Accept": ACCEPT})
            try:
                data = bytearray()
                pace = Pace(url)
                while chunk := response.read1(_CHUNK, decode_content=True):
                    pace.count(len(chunk))
                    data += chunk
                    if len(data) > MAX_MANIFEST:
                        raise RegistryContentError(
                            f"{self.endpoint.host}: manifest of {reference.name} is larger than "
                            f"{MAX_MANIFEST} bytes"
                        )
                return _media_type(response, bytes(data)), bytes(data)
            except HTTPError as err:
                if isinstance(err, BROKEN) and pause.wait():
                    continue
                raise self.broken(reference, named, err) from err
            finally:
                response.close()

    def fetch(
        self,
        reference: ImageReference,
        blob: Descriptor,
        content: ContentStore,
        on_bytes: OnBytes,
    ) -> None:
        url = self.url(reference, f"blobs/{blob.digest}")
        pause = Pause(self.connection.stop)
        with content.writer() as writer:
            while True:
                before = writer.size
                try:
                    self._receive(url, reference, blob, writer, on_bytes)
                    break
                except HTTPError as err:
                    if writer.size - before >= _PROGRESS:
                        pause.attempts = 0  # it goes on, if slowly
                    if isinstance(err, BROKEN) and pause.wait():
                        continue
                    raise self.broken(reference, blob.digest, err) from err
            try:
                writer.commit(blob.digest, blob.size)
            except CorruptError as err:
                raise RegistryContentError(
                    f"{self.endpoint.host}: {reference.name}: {err.message}"
                ) from err

    def _receive(
        self,
        url: str,
        reference: ImageReference,
        blob: Descriptor,
        writer: BlobWriter,
        on_bytes: OnBytes,
    ) -> None:
        """Append what is missing to `writer`; returns at the end of the body."""
        if writer.size == blob.size and blob.size:
            return
        headers = {"Accept-Encoding": "identity"}
        if writer.size:
            headers["Range"] = f"bytes={writer.size}-"
        response = self.request("GET", url, reference, blob.digest, headers)
        try:
            skip = writer.size
            if response.status == 206:
                if not response.headers.get("Content-Range", "").startswith(f"bytes {skip}-"):
                    raise RegistryError(f"{self.endpoint.host}: answers with another range")
                skip = 0
            pace = Pace(url)
            # Not `stream`: it keeps what came before a break to itself.
            while chunk := response.read1(_CHUNK, decode_content=False):
                if self.connection.stop.is_set():
                    raise StoppedError
                pace.count(len(chunk))
                if skip >= len(chunk):
                    skip -= len(chunk)
                    continue
                writer.write(chunk[skip:])
                skip = 0
                if writer.size > blob.size:
                    raise RegistryContentError(
                        f"{self.endpoint.host}: {reference.name}: blob is larger than "
                        f"{blob.size} bytes: {blob.digest}"
                    )
                on_bytes(writer.size)
        finally:
            response.close()


def _media_type(response: urllib3.BaseHTTPResponse, data: bytes = b"") -> str:
    """Give the media type of a manifest: its own word counts more than the header's."""
    own = ""
    if data:
        try:
            document: Any = json.loads(data)
            own = document.get("mediaType", "") if isinstance(document, dict) else ""
        except (ValueError, RecursionError):
            pass
    return str(own or response.headers.get("Content-Type", "").partition(";")[0].strip())
