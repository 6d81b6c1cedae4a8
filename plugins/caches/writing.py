"""Writing a cache as blobs: layers at once, then config and manifest.

Spec: the cache reference, section 5, Manifests.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, Protocol

from torana.core.cache.layers import Layer
from torana.core.content.store import ContentStore
from torana.core.oci.descriptor import Descriptor
from torana.core.pool import run_blocking, tasks_together
from torana.core.remotecache.backend import MANIFEST_ANSWER, CacheProgress
from torana.core.remotecache.chains import ExportedCache
from torana.core.remotecache.manifest import ManifestForm, config_descriptor

log = logging.getLogger(__name__)

_AT_ONCE: Final = 4  # layers
READABLE_BYTES: Final = 1 << 20
"""BuildKit reads no config or manifest that is larger."""


class Sink(Protocol):
    """Takes the blobs of one cache."""

    async def layer(self, layer: Layer) -> None: ...

    async def blob(self, blob: Descriptor) -> None:
        """Take a blob that is in the content store."""
        ...

    async def manifest(self, manifest: Descriptor) -> None:
        """Take the manifest, the last one of all; from now on it has a name."""
        ...


async def write_cache(
    cache: ExportedCache,
    form: ManifestForm,
    sink: Sink,
    content: ContentStore,
    progress: CacheProgress,
) -> Mapping[str, str]:
    """Write a cache into `sink`; one without layers is not worth it."""
    if not cache.config.layers:
        log.warning("failed to match any cache with layers")
        progress.status("skipping cache export for empty result", done=True)
        return {}

    free = asyncio.Semaphore(_AT_ONCE)

    async def write(layer: Layer) -> None:
        status = f"writing layer {layer.descriptor.digest}"
        async with free:
            progress.status(status)
            await sink.layer(layer)
            progress.status(status, done=True)

    async with tasks_together() as group:
        for layer in cache.layers.values():
            group.create_task(write(layer))
    data = cache.config.to_json()
    config = config_descriptor(data)
    status = f"writing config {config.digest}"
    progress.status(status)
    await run_blocking(content.add, data)
    await sink.blob(config)
    progress.status(status, done=True)
    document = form.to_json(cache.ordered(), config)
    if max(len(data), len(document)) > READABLE_BYTES:
        size = max(len(data), len(document))
        progress.warn(
            f"the exported cache is described by {size} bytes: BuildKit reads no more than "
            f"{READABLE_BYTES}"
        )
    manifest = replace(config_descriptor(document), media_type=form.media_type)
    kind = "cache image manifest" if form.is_image else "cache manifest"
    status = f"writing {kind} {manifest.digest}"
    progress.status(status)
    await run_blocking(content.add, document)
    await sink.manifest(manifest)
    progress.status(status, done=True)
    return {MANIFEST_ANSWER: json.dumps(manifest.to_dict(), separators=(",", ":"))}
