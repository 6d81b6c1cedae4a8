"""`LayoutOrigin`: images in a folder of this machine that has the OCI layout.

Spec: OCI image specification, Image Layout.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any, Final

from torana.core.content.store import ContentStore
from torana.core.errors import CorruptError, NotFoundError, UserError
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest, InvalidDigestError
from torana.core.oci.reference import ImageReference
from torana.plugins.registry.errors import StoppedError
from torana.plugins.registry.origin import OCTETS, OnBytes

_CHUNK: Final = 1 << 20
MAX_MANIFEST: Final = 4 << 20
_NAME: Final = "org.opencontainers.image.ref.name"


class LayoutError(UserError):
    """A folder is no OCI layout, or does not have what was asked for."""

    code = "LAYOUT_INVALID"


class LayoutOrigin:
    """One folder."""

    def __init__(self, folder: Path, stop: threading.Event | None = None) -> None:
        self._folder = folder
        self.stop = stop or threading.Event()

    def resolve(self, reference: ImageReference) -> Descriptor:
        """Give what a digest names; layouts are not asked for tags."""
        digest = digest_of(reference)
        media_type, data = self.manifest(reference, digest)
        return Descriptor(media_type=media_type, digest=digest, size=len(data))

    def manifest(self, reference: ImageReference, digest: Digest) -> tuple[str, bytes]:
        path = self._path(digest)
        try:
            if path.stat().st_size > MAX_MANIFEST:
                raise LayoutError(f"manifest is larger than {MAX_MANIFEST} bytes: {path}")
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError(f"OCI layout {self._folder}: not found: {digest}") from None
        if Digest.of(data) != digest:
            raise CorruptError(f"OCI layout {self._folder}: blob is damaged: {digest}")
        return media_type_of(data), data

    def find_blob(self, reference: ImageReference, digest: Digest) -> Descriptor:
        try:
            size = self._path(digest).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError(f"OCI layout {self._folder}: not found: {digest}") from None
        return Descriptor(media_type=OCTETS, digest=digest, size=size)

    def fetch(
        self,
        reference: ImageReference,
        blob: Descriptor,
        content: ContentStore,
        on_bytes: OnBytes = lambda count: None,
    ) -> None:
        if content.use(blob.digest):
            return
        try:
            with open(self._path(blob.digest), "rb") as file, content.writer() as writer:
                while chunk := file.read(_CHUNK):
                    if self.stop.is_set():
                        raise StoppedError
                    writer.write(chunk)
                    on_bytes(writer.size)
                writer.commit(blob.digest, blob.size)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError(f"OCI layout {self._folder}: not found: {blob.digest}") from None

    def _path(self, digest: Digest) -> Path:
        return self._folder / "blobs" / digest.algorithm / digest.encoded


def digest_of(reference: ImageReference) -> Digest:
    """Give the digest of a reference to an image of a layout.

    Raises:
        LayoutError: it has none.
    """
    if reference.digest is None:
        raise LayoutError(f"an image of an OCI layout needs a digest: `{reference}`")
    return reference.digest


def media_type_of(manifest: bytes) -> str:
    """Give what a manifest says of itself, which may be nothing."""
    try:
        document: Any = json.loads(manifest)
    except (ValueError, RecursionError):
        return ""
    return str(document.get("mediaType", "")) if isinstance(document, dict) else ""


def find_digest(folder: Path, tag: str) -> Digest:
    """Give the digest that `index.json` has for a tag; ``""`` is `latest`, or the only image.

    Raises:
        LayoutError: it is no layout, or has no such image.
    """
    try:
        index = json.loads((folder / "index.json").read_bytes())
        entries = [Descriptor.from_dict(entry) for entry in index["manifests"]]
    except (OSError, ValueError, RecursionError, KeyError, TypeError, InvalidDigestError):
        raise LayoutError(f"no OCI layout: `{folder}`") from None
    wanted = tag or "latest"
    for entry in entries:
        if entry.annotations.get(_NAME) == wanted:
            return entry.digest
    if not tag and len(entries) == 1:
        return entries[0].digest
    names = ", ".join(f"`{name}`" for e in entries if (name := e.annotations.get(_NAME)))
    raise LayoutError(
        f"no image `{wanted}` in the OCI layout `{folder}`", hint=f"it has {names or 'no names'}"
    )
