"""The image source: `docker-image://` references to images in registries.

Its key needs index, manifest and config only. The tree it gives has its layers still in the
registry (`core.cache.imagelayers`): they are fetched and unpacked when a step needs their files.
A build whose steps are all cached pulls nothing.

Spec: reference of sources, section 2; reference of the solver, section 6.1.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from torana.core.cache.imagelayers import ImageLayer, chain_ids
from torana.core.cache.ref import RecordType, Tree
from torana.core.errors import UserError
from torana.core.oci.digest import Digest, InvalidDigestError
from torana.core.oci.layertypes import SOURCE_ANNOTATION
from torana.core.oci.platform import Platform, host_platform
from torana.core.oci.reference import ImageReference, parse_reference
from torana.core.ops.keyjson import key_json
from torana.core.ops.source import (
    ImageMetadata,
    InvalidSourceError,
    SourceKey,
    SourceRequest,
    SourceServices,
)
from torana.plugins.registry.access import RegistryAccess, default_access
from torana.plugins.registry.client import RegistryClient
from torana.plugins.registry.images import ImageResolver, ResolvedImage, ResolveMode
from torana.plugins.registry.origin import OpenOrigin
from torana.plugins.registry.pull import Pull
from torana.plugins.registry.threads import run_network

_RECORDS: Final = {
    "": RecordType.REGULAR,
    "regular": RecordType.REGULAR,
    "internal": RecordType.INTERNAL,
    "frontend": RecordType.FRONTEND,
}


class ImageMismatchError(UserError):
    """An image is not the one that was asked for."""

    code = "IMAGE_MISMATCH"


class ImageSource:
    """Serves `docker-image://`; without `access` with the settings and credentials of the user."""

    schemes = ("docker-image",)

    def __init__(self, access: RegistryAccess | None = None) -> None:
        self._access = access

    def open(self, request: SourceRequest, services: SourceServices) -> ImageInstance:
        attrs = request.attrs
        reference = parse_reference(request.rest)
        if not reference.tag and reference.digest is None:
            raise InvalidSourceError(f"image has neither tag nor digest: `{request.rest}`")
        mode = attrs.get("image.resolvemode") or "default"
        if mode not in [known.value for known in ResolveMode]:
            raise InvalidSourceError(f"invalid image resolve mode: `{mode}`")
        checksum = attrs.get("image.checksum", "")
        try:
            expected = Digest.parse(checksum) if checksum else None
        except InvalidDigestError:
            raise InvalidSourceError(f"invalid image checksum: `{checksum}`") from None
        return ImageInstance(
            partial(RegistryClient, self._access or default_access()),
            services,
            reference=reference,
            platform=request.platform or host_platform(),
            mode=ResolveMode(mode),
            record_type=record_type(attrs),
            limit=layer_limit(attrs.get("image.layerlimit", "")),
            checksum=expected,
        )


def record_type(attrs: Mapping[str, str]) -> RecordType:
    """Read `image.recordtype`.

    Raises:
        InvalidSourceError: it is unknown.
    """
    record = attrs.get("image.recordtype", "")
    if record not in _RECORDS:
        raise InvalidSourceError(f"invalid image record type: `{record}`")
    return _RECORDS[record]


def layer_limit(text: str) -> int | None:
    """Read the number of layers that are wanted, None for all.

    Raises:
        InvalidSourceError: it is no positive number.
    """
    if not text:
        return None
    if not text.isdecimal() or not int(text):
        raise InvalidSourceError(f"invalid layer limit {text}")
    return int(text)


class ImageInstance:
    """One image for one platform."""

    def __init__(
        self,
        open_origin: OpenOrigin,
        services: SourceServices,
        *,
        reference: ImageReference,
        platform: Platform,
        mode: ResolveMode,
        record_type: RecordType = RecordType.REGULAR,
        limit: int | None = None,
        checksum: Digest | None = None,
        is_registry: bool = True,
    ) -> None:
        self._open_origin = open_origin
        self._services = services
        self._reference = reference
        self._platform = platform
        self._mode = mode
        self._record_type = record_type
        self._limit = limit
        self._checksum = checksum
        self._is_registry = is_registry

    async def cache_key(self, index: int) -> SourceKey:
        """Give what the reference stands for, then the chain id: retagged images match by that."""
        image = await self._resolved()
        first = manifest_key(image, self._platform, self._limit)
        if index == 0:
            return SourceKey(first, pin=image.digest, is_last=False)
        return SourceKey(content_key(image, self._limit) or first, pin=image.digest)

    async def metadata(self) -> ImageMetadata:
        image = await self._resolved()
        return ImageMetadata(ref=str(self._reference), digest=image.digest, config=image.config)

    async def snapshot(self) -> Tree | None:
        image = await self._resolved()
        services = self._services
        layers = [self._marked(layer) for layer in image.layers(self._limit)]
        if self._limit is not None and len(layers) < self._limit:
            raise InvalidSourceError(
                f"{self._reference}: has {len(layers)} layers, {self._limit} are wanted"
            )
        reference = self._reference.with_digest(image.digest)
        provider = Pull(self._open_origin, reference, services.content, services.progress)
        return await services.image_layers.ref(
            layers,
            provider,
            description=f"pulled from {reference}",
            created=time.time(),
            record_type=self._record_type,
            documents=image.documents,
        )

    def _marked(self, layer: ImageLayer) -> ImageLayer:
        """Note on a layer's blob where it came from, so that a push may take it from there."""
        if not self._is_registry:
            return layer
        source = {SOURCE_ANNOTATION + self._reference.domain: self._reference.path}
        blob = replace(layer.blob, annotations={**layer.blob.annotations, **source})
        return replace(layer, blob=blob)

    async def _resolved(self) -> ResolvedImage:
        """Resolve once per build."""
        memo = self._services.memo
        key = ("docker-image", str(self._reference), self._platform.format_all(), self._mode)
        lock = memo.setdefault(("docker-image lock", *key), asyncio.Lock())
        async with lock:
            if key not in memo:
                memo[key] = await self._resolve()
        image: ResolvedImage = memo[key]
        if self._checksum not in (None, image.digest):
            raise ImageMismatchError(
                f"image digest {image.digest} for {self._reference} does not match expected "
                f"checksum {self._checksum}"
            )
        return image

    async def _resolve(self) -> ResolvedImage:
        status = f"resolve {self._reference}"
        self._services.progress.status(status)
        origin = self._open_origin(threading.Event())
        resolver = ImageResolver(origin, self._services.content, self._services.images)
        work = partial(resolver.resolve, self._reference, self._platform, self._mode)
        image = await run_network(origin.stop, work)
        self._services.progress.status(status, done=True)
        return image


def manifest_key(image: ResolvedImage, platform: Platform, limit: int | None) -> str:
    """Give the key of what a reference stands for, on one platform."""
    members: dict[str, Any] = {
        "Digest": image.digest,
        "OS": platform.os,
        "Arch": platform.architecture,
    }
    if platform.variant:
        members["Variant"] = platform.variant
    if platform.os_version:
        members["OSVersion"] = platform.os_version
    if platform.os_features:
        members["OSFeatures"] = list(platform.os_features)
    if limit is not None:
        members["Limit"] = limit
    return Digest.of(key_json(members))


def content_key(image: ResolvedImage, limit: int | None) -> str | None:
    """Give the key of an image's layers, None if it has none."""
    if image.diff_ids is None:
        return Digest.of(image.config)
    diff_ids = image.diff_ids if limit is None else image.diff_ids[:limit]
    return chain_ids(diff_ids)[-1] if diff_ids else None
