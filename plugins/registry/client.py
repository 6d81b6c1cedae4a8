"""`RegistryClient`: manifests and blobs of repositories.

Mirrors are asked first, in order; what one does not have or gives wrong, the next is asked for.
The last server is the host itself, and its error is the one that is told.

Spec: OCI distribution specification, Pulling; Docker Registry HTTP API V2.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import urllib3
from urllib3.exceptions import HTTPError

from torana.core.content.store import BlobWriter, ContentStore
from torana.core.errors import CorruptError, ToranaError, UnsupportedError
from torana.core.oci import image as oci
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest, InvalidDigestError
from torana.core.oci.reference import ImageReference
from torana.plugins.registry.authorization import Authorizer
from torana.plugins.registry.connection import (
    BROKEN,
    Connection,
    Pause,
    Pools,
    describe,
    finish,
)
from torana.plugins.registry.credentials import Credentials, DockerCredentials
from torana.plugins.registry.errors import (
    RegistryAuthError,
    RegistryContentError,
    RegistryError,
    RegistryNotFoundError,
    StoppedError,
)
from torana.plugins.registry.settings import Endpoint, RegistrySettings, read_settings

ACCEPT: Final = ", ".join(
    (oci.OCI_INDEX, oci.OCI_MANIFEST, oci.DOCKER_INDEX, oci.DOCKER_MANIFEST, "*/*")
)
MAX_MANIFEST: Final = 4 << 20
_CHUNK: Final = 1 << 18
_DIGEST: Final = "Docker-Content-Digest"

T = TypeVar("T")
OnBytes = Callable[[int], None]
"""Takes the number of bytes of a blob that are here."""


@dataclass(slots=True)
class RegistryAccess:
    """What all callers of a process share: settings, who we are, tokens, open connections."""

    settings: RegistrySettings
    credentials: Credentials
    pools: Pools = field(default_factory=Pools)
    authorizer: Authorizer = field(init=False)

    def __post_init__(self) -> None:
        self.authorizer = Authorizer(self.credentials)

    @classmethod
    def of_user(cls) -> RegistryAccess:
        """Read the settings of whoever runs this process, with Docker's credentials.

        Raises:
            InvalidRegistrySettingsError: the file of settings is wrong.
        """
        return cls(read_settings(), DockerCredentials())


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

    def _ask(self, reference: ImageReference, ask: Callable[[_Server], T]) -> T:
        *mirrors, last = [
            _Server(self._access, endpoint, scheme, self.stop)
            for endpoint in self._access.settings.endpoints(reference)
            for scheme in endpoint.schemes
        ]
        for server in mirrors:
            try:
                return ask(server)
            except ToranaError:
                continue
        return ask(last)


class _Server:
    """One endpoint, by one scheme."""

    def __init__(
        self, access: RegistryAccess, endpoint: Endpoint, scheme: str, stop: threading.Event
    ) -> None:
        self._endpoint = endpoint
        self._scheme = scheme
        self._authorizer = access.authorizer
        self._connection = Connection(access.pools, endpoint.settings, stop)

    def resolve(self, reference: ImageReference) -> Descriptor:
        named = str(reference.digest or reference.tag)
        url = self._url(reference, f"manifests/{named}")
        response = self._request("HEAD", url, reference, named, {"Accept": ACCEPT})
        finish(response)
        text = response.headers.get(_DIGEST, "")
        if not text and reference.digest is None:
            return self._resolve_by_content(reference, url)
        digest = self._digest(text) if text else reference.digest
        assert digest is not None
        if reference.digest is not None and digest != reference.digest:
            raise RegistryContentError(
                f"{self._endpoint.host}: answers with {digest}: {reference.name}@{reference.digest}"
            )
        length = response.headers.get("Content-Length", "")
        return Descriptor(media_type=_media_type(response), digest=digest, size=int(length or 0))

    def _resolve_by_content(self, reference: ImageReference, url: str) -> Descriptor:
        """For servers that do not name the digest."""
        media_type, data = self._read(url, reference, reference.tag)
        return Descriptor(media_type=media_type, digest=Digest.of(data), size=len(data))

    def _digest(self, text: str) -> Digest:
        try:
            return Digest.parse(text)
        except InvalidDigestError:
            raise RegistryError(f"{self._endpoint.host}: malformed digest: `{text}`") from None

    def manifest(self, reference: ImageReference, digest: Digest) -> tuple[str, bytes]:
        url = self._url(reference, f"manifests/{digest}")
        media_type, data = self._read(url, reference, digest)
        if Digest.of(data) != digest:
            raise RegistryContentError(
                f"{self._endpoint.host}: manifest of {reference.name} has digest "
                f"{Digest.of(data)}, expected {digest}"
            )
        return media_type, data

    def _read(self, url: str, reference: ImageReference, named: str) -> tuple[str, bytes]:
        pause = Pause(self._connection.stop)
        while True:
            response = self._request("GET", url, reference, named, {"Accept": ACCEPT})
            try:
                data = bytearray()
                while chunk := response.read(_CHUNK, decode_content=True):
                    data += chunk
                    if len(data) > MAX_MANIFEST:
                        raise RegistryContentError(
                            f"{self._endpoint.host}: manifest of {reference.name} is larger than "
                            f"{MAX_MANIFEST} bytes"
                        )
                return _media_type(response, bytes(data)), bytes(data)
            except HTTPError as err:
                if isinstance(err, BROKEN) and pause.wait():
                    continue
                raise self._broken(reference, named, err) from err
            finally:
                response.close()

    def fetch(
        self,
        reference: ImageReference,
        blob: Descriptor,
        content: ContentStore,
        on_bytes: OnBytes,
    ) -> None:
        url = self._url(reference, f"blobs/{blob.digest}")
        pause = Pause(self._connection.stop)
        with content.writer() as writer:
            while True:
                before = writer.size
                try:
                    self._receive(url, reference, blob, writer, on_bytes)
                    break
                except HTTPError as err:
                    if writer.size > before:
                        pause.attempts = 0  # it goes on, if slowly
                    if isinstance(err, BROKEN) and pause.wait():
                        continue
                    raise self._broken(reference, blob.digest, err) from err
            try:
                writer.commit(blob.digest, blob.size)
            except CorruptError as err:
                raise RegistryContentError(
                    f"{self._endpoint.host}: {reference.name}: {err.message}"
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
        response = self._request("GET", url, reference, blob.digest, headers)
        try:
            skip = writer.size
            if response.status == 206:
                if not response.headers.get("Content-Range", "").startswith(f"bytes {skip}-"):
                    raise RegistryError(f"{self._endpoint.host}: answers with another range")
                skip = 0
            # Not `stream`: it keeps what came before a break to itself.
            while chunk := response.read1(_CHUNK, decode_content=False):
                if self._connection.stop.is_set():
                    raise StoppedError
                if skip >= len(chunk):
                    skip -= len(chunk)
                    continue
                writer.write(chunk[skip:])
                skip = 0
                if writer.size > blob.size:
                    raise RegistryContentError(
                        f"{self._endpoint.host}: {reference.name}: blob is larger than "
                        f"{blob.size} bytes: {blob.digest}"
                    )
                on_bytes(writer.size)
        finally:
            response.close()

    # One request

    def _url(self, reference: ImageReference, path: str) -> str:
        return self._endpoint.url(self._scheme, f"{reference.path}/{path}")

    def _request(
        self,
        method: str,
        url: str,
        reference: ImageReference,
        named: str,
        headers: Mapping[str, str],
    ) -> urllib3.BaseHTTPResponse:
        """Send a request, with credentials if they are wanted; gives an answer 2xx.

        `named` is the tag or digest that is asked for.
        """
        host = self._endpoint.host
        scope = f"repository:{self._endpoint.prefix}{reference.path}:pull"
        for attempt in range(3):
            known = self._authorizer.header(host, scope)
            response = self._connection.request(method, url, {**headers, **known})
            if response.status != 401 or attempt == 2:
                break
            finish(response)
            if known and attempt:
                self._authorizer.forget(host, scope)
                break
            self._authorizer.answer(self._connection, host, scope, response)
        if response.status in (200, 206):
            return response
        try:
            raise self._refused(response, reference, named)
        finally:
            response.close()

    def _refused(
        self, response: urllib3.BaseHTTPResponse, reference: ImageReference, named: str
    ) -> ToranaError:
        joint = "@" if ":" in named else ":"
        what = f"{reference.name}{joint}{named}"
        if reference.domain != self._endpoint.host:
            what = f"{what} at {self._endpoint.host}"
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
        return RegistryError(f"{what}: {self._endpoint.host} answers {response.status}{details}")

    def _broken(self, reference: ImageReference, named: str, err: HTTPError) -> RegistryError:
        joint = "@" if ":" in named else ":"
        return RegistryError(
            f"{reference.name}{joint}{named}: the connection to {self._endpoint.host} broke: "
            f"{describe(err)}"
        )


def _media_type(response: urllib3.BaseHTTPResponse, data: bytes = b"") -> str:
    """Give the media type of a manifest: its own word counts more than the header's."""
    own = ""
    if data:
        try:
            document: Any = json.loads(data)
            own = document.get("mediaType", "") if isinstance(document, dict) else ""
        except ValueError:
            pass
    return str(own or response.headers.get("Content-Type", "").partition(";")[0].strip())


def _details(response: urllib3.BaseHTTPResponse) -> str:
    """Give what a registry says about an error, in its own form."""
    try:
        errors = json.loads(response.read(1 << 16, decode_content=True))["errors"]
        said = [str(error.get("message") or error.get("code")) for error in errors]
    except (ValueError, KeyError, TypeError, AttributeError, HTTPError):
        return ""
    return f": {'; '.join(said)[:300]}" if said else ""
