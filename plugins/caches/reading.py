"""`OriginReader`: reads caches from where images come from: a manifest of layers and a config.

An image has its cache in its own config, if at all.

Spec: the cache reference, sections 6 and 9.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from torana.core.cache.imagelayers import ImageLayer
from torana.core.content.store import ContentStore
from torana.core.oci import image as oci
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest, InvalidDigestError
from torana.core.oci.layertypes import SOURCE_ANNOTATION, is_layer, oci_layer
from torana.core.oci.reference import ImageReference
from torana.core.records import dataclass
from torana.core.remotecache.backend import CacheProgress
from torana.core.remotecache.config import (
    CONFIG_TYPE,
    CacheConfig,
    CacheConfigError,
    read_time,
)
from torana.core.remotecache.imported import FoundCache
from torana.core.remotecache.inline import MEMBER, read_member
from torana.core.remotecache.manifest import image_layer
from torana.plugins.registry.origin import ImageOrigin, OpenOrigin
from torana.plugins.registry.pull import Pull
from torana.plugins.registry.threads import run_network

CONFIG_LIMIT: Final = 4 << 20  # bytes
_MANIFEST_LIMIT: Final = 256  # manifests below an index
_INDEXES: Final = (oci.OCI_INDEX, oci.DOCKER_INDEX)
_MANIFESTS: Final = (oci.OCI_MANIFEST, oci.DOCKER_MANIFEST)

Layers = Mapping[Digest, ImageLayer]


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginReader:
    """A `CacheReader`. With `is_registry`, layers may be mounted from there when pushed."""

    open_origin: OpenOrigin
    reference: ImageReference
    content: ContentStore
    is_registry: bool = False
    is_lasting: bool = True

    async def read(self, progress: CacheProgress) -> Sequence[FoundCache]:
        origin = self.open_origin(threading.Event())
        notes: list[str] = []
        reading = _Reading(origin, self.reference, self.content, notes.append)
        kind, caches = await run_network(origin.stop, reading.run)
        progress.status(f"inferred cache manifest type: {kind}", done=True)
        for note in notes:
            progress.warn(note)
        blobs = _Blobs(self.open_origin, self.reference, self.content, progress)
        return [
            FoundCache(
                config=config,
                layers={digest: self._marked(layer) for digest, layer in layers.items()},
                blobs=blobs,
                is_lasting=self.is_lasting,
            )
            for config, layers in caches
        ]

    def _marked(self, layer: ImageLayer) -> ImageLayer:
        """Note where a layer came from, so that a push may take it from there."""
        if not self.is_registry:
            return layer
        source = {SOURCE_ANNOTATION + self.reference.domain: self.reference.path}
        blob = replace(layer.blob, annotations={**layer.blob.annotations, **source})
        return replace(layer, blob=blob)


@dataclass(frozen=True, slots=True)
class _Blobs:
    """The layers of a cache: a `BlobSource`."""

    open_origin: OpenOrigin
    reference: ImageReference
    content: ContentStore
    progress: CacheProgress

    async def check(self, blob: Descriptor) -> None:
        origin = self.open_origin(threading.Event())
        await run_network(origin.stop, partial(origin.find_blob, self.reference, blob.digest))

    def provider(self) -> Pull:
        return Pull(self.open_origin, self.reference, self.content, self.progress)


class _Reading:
    """One reading, in a thread."""

    def __init__(
        self,
        origin: ImageOrigin,
        reference: ImageReference,
        content: ContentStore,
        warn: Callable[[str], None],
    ) -> None:
        self._origin = origin
        self._reference = reference
        self._content = content
        self._warn = warn
        self._left = _MANIFEST_LIMIT

    def run(self) -> tuple[str, list[tuple[CacheConfig, Layers]]]:
        """Give the type of the manifest, and the caches.

        Raises:
            ToranaError: it cannot be read.
            CacheConfigError: it makes no sense.
        """
        root = self._origin.resolve(self._reference)
        kind, document = self._manifest(root.digest)
        entries = _descriptors(document, "manifests" if kind in _INDEXES else "layers")
        if kind in _MANIFESTS:
            entries.append(_config_of(document))
        for entry in entries:
            if entry.media_type == CONFIG_TYPE:
                config = CacheConfig.from_json(self._small(entry))
                return kind, [(config, _layers(entries))]
        found = self._inline(kind, document)
        if not found:
            self._warn(f"no cache was exported to {self._reference}")
        return kind, found

    def _inline(self, kind: str, document: Mapping[str, Any]) -> list[tuple[CacheConfig, Layers]]:
        """Read what the configs of an image for one or several platforms have."""
        if kind in _MANIFESTS:
            found = self._of_image(document)
            return [] if found is None else [found]
        caches = []
        for entry in _descriptors(document, "manifests"):
            if entry.media_type not in (*_INDEXES, *_MANIFESTS):
                continue
            self._left -= 1
            if self._left < 0:
                raise CacheConfigError(f"{self._reference}: has too many manifests")
            caches += self._inline(*self._manifest(entry.digest))
        return caches

    def _of_image(self, manifest: Mapping[str, Any]) -> tuple[CacheConfig, Layers] | None:
        blobs = _descriptors(manifest, "layers")
        described = _config_of(manifest)
        if described.media_type not in (oci.OCI_CONFIG, oci.DOCKER_CONFIG) or not blobs:
            return None
        config = _object(self._small(described))
        if not config.get(MEMBER):
            return None
        try:
            diff_ids = [Digest.parse(text) for text in config["rootfs"]["diff_ids"]]
        except (KeyError, TypeError, AttributeError, InvalidDigestError):
            diff_ids = []
        if len(diff_ids) != len(blobs):
            self._warn(f"{self._reference}: manifest and config of the image do not agree")
            return None
        layers = {
            blob.digest: ImageLayer(
                blob=replace(blob, media_type=oci_layer(blob.media_type)),
                diff_id=diff_id,
                description=description,
                created=created,
            )
            for blob, diff_id, (description, created) in zip(
                blobs, diff_ids, _history(config, len(blobs)), strict=True
            )
            if is_layer(blob.media_type)
        }
        return read_member(config[MEMBER], [blob.digest for blob in blobs]), layers

    def _manifest(self, digest: Digest) -> tuple[str, dict[str, Any]]:
        media_type, data = self._origin.manifest(self._reference, digest)
        document = _object(data)
        kind = document.get("mediaType") or media_type
        if kind not in (*_INDEXES, *_MANIFESTS):
            kind = oci.OCI_INDEX if "manifests" in document else oci.OCI_MANIFEST
            if "layers" not in document and "manifests" not in document:
                raise CacheConfigError(f"{self._reference}: {digest} is no manifest")
        return kind, document

    def _small(self, blob: Descriptor) -> bytes:
        """Read a document that is no manifest."""
        if blob.size > CONFIG_LIMIT:
            raise CacheConfigError(
                f"{self._reference}: {blob.digest} has {blob.size} bytes, more than {CONFIG_LIMIT}"
            )
        if not self._content.use(blob.digest):
            self._origin.fetch(self._reference, blob, self._content)
        return self._content.read(blob.digest)


def _object(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise CacheConfigError("cache manifest or config is no JSON object")
    return document


def _descriptors(document: Mapping[str, Any], member: str) -> list[Descriptor]:
    try:
        return [Descriptor.from_dict(entry) for entry in document.get(member) or ()]
    except (KeyError, TypeError, ValueError, AttributeError, InvalidDigestError) as err:
        raise CacheConfigError(f"malformed `{member}` in a cache manifest: {err}") from None


def _config_of(manifest: Mapping[str, Any]) -> Descriptor:
    try:
        return Descriptor.from_dict(manifest["config"])
    except (KeyError, TypeError, ValueError, AttributeError, InvalidDigestError) as err:
        raise CacheConfigError(f"malformed `config` in a cache manifest: {err}") from None


def _layers(blobs: Sequence[Descriptor]) -> Layers:
    """Give the layers that say what is in them."""
    found = {blob.digest: image_layer(blob) for blob in blobs if is_layer(blob.media_type)}
    return {digest: layer for digest, layer in found.items() if layer is not None}


def _history(config: Mapping[str, Any], count: int) -> list[tuple[str, float | None]]:
    """Give description and time of each layer, as the history of the image has them."""
    found: list[tuple[str, float | None]] = []
    entries = config.get("history")
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or entry.get("empty_layer"):
            continue
        try:
            created = read_time(entry["created"])
        except (KeyError, TypeError, ValueError, OverflowError):
            created = None
        found.append((str(entry.get("created_by") or ""), created))
    return (found + [("", None)] * count)[:count]
