"""What an image in the content store consists of: index, manifests, configs, layers.

Spec: OCI image specification, Image Manifest and Image Index.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from torana.core.content.store import ContentStore
from torana.core.errors import CorruptError
from torana.core.oci import image as oci
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import InvalidDigestError
from torana.core.records import dataclass

_INDEXES: Final = (oci.OCI_INDEX, oci.DOCKER_INDEX)
_MANIFESTS: Final = (oci.OCI_MANIFEST, oci.DOCKER_MANIFEST)
_MAX_DOCUMENT: Final = 4 << 20  # bytes
_MAX_DEPTH: Final = 8  # indexes may name indexes


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """One manifest of an image: its descriptor, config and layers, base first."""

    descriptor: Descriptor
    config: Descriptor
    layers: Sequence[Descriptor]

    @property
    def size(self) -> int:
        """Bytes that it takes, compressed."""
        blobs = (self.descriptor, self.config, *self.layers)
        return sum({blob.digest: blob.size for blob in blobs}.values())


def is_index(descriptor: Descriptor) -> bool:
    """Say whether it names other manifests."""
    return descriptor.media_type in _INDEXES


def stored_manifests(content: ContentStore, root: Descriptor) -> list[StoredManifest]:
    """Give the manifests of an image, in the order of its index.

    Raises:
        NotFoundError: a document is not here.
        CorruptError: one is malformed.
    """
    return list(_manifests(content, root, 0))


def image_blobs(content: ContentStore, root: Descriptor) -> list[Descriptor]:
    """Give all blobs of an image once, each before what names it; the root comes last.

    Raises:
        NotFoundError: a document is not here.
        CorruptError: one is malformed.
    """
    return list({blob.digest: blob for blob in _blobs(content, root, 0)}.values())


def _manifests(content: ContentStore, root: Descriptor, depth: int) -> Iterator[StoredManifest]:
    document = _document(content, root)
    if is_index(root):
        for entry in _named(document, "manifests", root, depth):
            yield from _manifests(content, entry, depth + 1)
        return
    try:
        config = Descriptor.from_dict(document["config"])
    except (KeyError, TypeError, ValueError, InvalidDigestError) as err:
        raise CorruptError(f"manifest {root.digest} has no config: {err}") from None
    yield StoredManifest(root, config, _named(document, "layers", root, depth))


def _blobs(content: ContentStore, root: Descriptor, depth: int) -> Iterator[Descriptor]:
    if is_index(root):
        for entry in _named(_document(content, root), "manifests", root, depth):
            yield from _blobs(content, entry, depth + 1)
    elif root.media_type in _MANIFESTS:
        (manifest,) = _manifests(content, root, depth)
        yield from manifest.layers
        yield manifest.config
    yield root


def _named(
    document: Mapping[str, Any], member: str, root: Descriptor, depth: int
) -> list[Descriptor]:
    if depth > _MAX_DEPTH:
        raise CorruptError(f"index {root.digest} is too deep")
    try:
        return [Descriptor.from_dict(entry) for entry in document.get(member) or ()]
    except (KeyError, TypeError, ValueError, AttributeError, InvalidDigestError) as err:
        raise CorruptError(f"{root.digest} is malformed: {member}: {err}") from None


def _document(content: ContentStore, root: Descriptor) -> dict[str, Any]:
    if content.size(root.digest) > _MAX_DOCUMENT:
        raise CorruptError(f"{root.digest} is larger than {_MAX_DOCUMENT} bytes")
    try:
        document = json.loads(content.read(root.digest))
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise CorruptError(f"{root.digest} is no JSON object")
    return document
