"""`ImageResolver`: from a reference to manifest, config and layers, with little network.

Documents (index, manifest, config) come into the content store and are looked for there first: what
is pinned and was here once needs no registry. Layers are only named.

Spec: reference of sources, section 2; OCI image specification, Image Manifest and Image Index.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Final

from torana.core.cache.imagelayers import ImageLayer
from torana.core.content.images import ImageStore
from torana.core.content.store import ContentStore
from torana.core.errors import CorruptError, NotFoundError, ToranaError, UnsupportedError
from torana.core.oci import image as oci
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest, InvalidDigestError
from torana.core.oci.platform import Platform, best_match
from torana.core.oci.reference import ImageReference
from torana.core.records import dataclass
from torana.plugins.registry.client import MAX_MANIFEST
from torana.plugins.registry.errors import RegistryContentError
from torana.plugins.registry.origin import ImageOrigin

_INDEXES: Final = (oci.OCI_INDEX, oci.DOCKER_INDEX)
_LAYERS: Final = (
    oci.OCI_LAYER,
    oci.DOCKER_LAYER,
    "application/vnd.oci.image.layer.nondistributable",
)


class ResolveMode(Enum):
    """Where a reference without a digest is looked up, in order."""

    DEFAULT = "default"  # registry, and if that fails Torana's own store
    PULL = "pull"  # registry only
    LOCAL = "local"  # store, then registry


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedImage:
    """One image of one platform."""

    reference: ImageReference
    digest: Digest  # what the reference stands for: an index where there is one
    config: bytes
    diff_ids: tuple[Digest, ...] | None  # None: the config cannot be understood
    blobs: tuple[Descriptor, ...]  # of the layers, base first
    documents: tuple[Digest, ...]  # index, manifest, config

    def layers(self, limit: int | None = None) -> list[ImageLayer]:
        """Pair blobs with diff ids, base first, the first `limit` ones.

        Raises:
            RegistryContentError: manifest and config do not agree.
        """
        diff_ids = self.diff_ids or ()
        if len(diff_ids) != len(self.blobs):
            raise RegistryContentError(
                f"{self.reference}: manifest has {len(self.blobs)} layers, config {len(diff_ids)}"
            )
        layers = [
            ImageLayer(blob=blob, diff_id=diff_id)
            for blob, diff_id in zip(self.blobs, diff_ids, strict=True)
        ]
        return layers if limit is None else layers[:limit]


class DocumentStore:
    """Documents of one image: here, or brought here from its origin."""

    def __init__(
        self, reference: ImageReference, content: ContentStore, origin: ImageOrigin | None
    ) -> None:
        self._reference = reference
        self._content = content
        self._origin = origin

    def manifest(self, digest: Digest) -> bytes:
        if self._content.use(digest):
            return self._content.read(digest)
        if self._origin is None:
            raise NotFoundError(f"{self._reference}: not found: {digest}")
        _, data = self._origin.manifest(self._reference, digest)
        self._content.add(data)
        return data

    def config(self, blob: Descriptor) -> bytes:
        if blob.size > MAX_MANIFEST:
            raise RegistryContentError(f"{self._reference}: config is larger than {MAX_MANIFEST}")
        if not self._content.use(blob.digest):
            if self._origin is None:
                raise NotFoundError(f"{self._reference}: not found: {blob.digest}")
            self._origin.fetch(self._reference, blob, self._content)
        return self._content.read(blob.digest)


class ImageResolver:
    """Resolves on behalf of one caller. Calls block."""

    def __init__(
        self, origin: ImageOrigin | None, content: ContentStore, images: ImageStore
    ) -> None:
        self._origin = origin
        self._content = content
        self._images = images

    def resolve(
        self, reference: ImageReference, platform: Platform, mode: ResolveMode
    ) -> ResolvedImage:
        """Resolve a reference.

        Raises:
            RegistryNotFoundError, RegistryAuthError, RegistryError: a registry is needed and fails.
            NotFoundError: nothing in the index runs on the platform.
            UnsupportedError, CorruptError: what it stands for is no image we can use.
        """
        digest = reference.digest
        if digest is None or not self._content.use(digest):
            digest = self._digest(reference, mode)
        documents = DocumentStore(reference, self._content, self._origin)
        return _read(reference, digest, platform, documents)

    def _digest(self, reference: ImageReference, mode: ResolveMode) -> Digest:
        stored = self._images.get(str(reference)) if mode is not ResolveMode.PULL else None
        if stored is not None and not self._content.use(stored.target.digest):
            stored = None
        if stored is not None and (mode is ResolveMode.LOCAL or self._origin is None):
            return stored.target.digest
        if self._origin is None:
            raise NotFoundError(f"{reference}: not found")
        try:
            return self._origin.resolve(reference).digest
        except ToranaError:
            if stored is None:
                raise
            return stored.target.digest


def _read(
    reference: ImageReference, digest: Digest, platform: Platform, documents: DocumentStore
) -> ResolvedImage:
    used = [digest]
    document = _object(reference, documents.manifest(digest))
    if _is_index(document):
        used.append(_choose(reference, document, platform))
        document = _object(reference, documents.manifest(used[-1]))
    try:
        config = Descriptor.from_dict(document["config"])
        blobs = tuple(Descriptor.from_dict(layer) for layer in document.get("layers") or ())
    except (KeyError, TypeError, ValueError, InvalidDigestError) as err:
        raise UnsupportedError(
            f"{reference}: {used[-1]} is no image manifest: {document.get('mediaType') or err}",
            hint="images of Docker's schema 1 and artifacts cannot be built upon",
        ) from None
    for blob in blobs:
        if not blob.media_type.startswith(_LAYERS):
            raise UnsupportedError(
                f"{reference}: layers of type `{blob.media_type}` cannot be unpacked"
            )
    data = documents.config(config)
    return ResolvedImage(
        reference=reference,
        digest=digest,
        config=data,
        diff_ids=_diff_ids(data),
        blobs=blobs,
        documents=(*used, config.digest),
    )


def _is_index(document: Mapping[str, Any]) -> bool:
    kind = document.get("mediaType")
    return kind in _INDEXES if kind else "manifests" in document


def _object(reference: ImageReference, data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise CorruptError(f"{reference}: its manifest is no JSON object")
    return document


def _choose(reference: ImageReference, index: Mapping[str, Any], platform: Platform) -> Digest:
    try:
        entries = [Descriptor.from_dict(entry) for entry in index["manifests"] or ()]
    except (KeyError, TypeError, ValueError, AttributeError, InvalidDigestError) as err:
        raise CorruptError(f"{reference}: its index is malformed: {err}") from None
    known = [entry for entry in entries if entry.platform is not None or len(entries) == 1]
    best = best_match(platform, [entry.platform or platform for entry in known])
    if best is None:
        raise NotFoundError(
            f"{reference}: no match for platform in manifest: not found: {platform.format()}",
            hint=f"it is made for {_offered(known) or 'none'}",
        )
    return known[best].digest


def _offered(entries: Sequence[Descriptor]) -> str:
    platforms = [entry.platform.format() for entry in entries if entry.platform is not None]
    return ", ".join(dict.fromkeys(p for p in platforms if not p.startswith("unknown")))


def _diff_ids(config: bytes) -> tuple[Digest, ...] | None:
    try:
        found = json.loads(config)["rootfs"]["diff_ids"] or ()
        return tuple(Digest.parse(text) for text in found)
    except (ValueError, KeyError, TypeError, AttributeError, InvalidDigestError):
        return None
