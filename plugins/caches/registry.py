"""The `registry` cache: a tag in a registry.

Spec: the cache reference, section 4, registry.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial

from torana.core.cache.layers import Layer, LayerForm
from torana.core.content.store import ContentStore
from torana.core.errors import ToranaError
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.reference import ImageReference, parse_reference
from torana.core.records import dataclass
from torana.core.remotecache.backend import CacheProgress
from torana.core.remotecache.chains import ExportedCache
from torana.core.remotecache.manifest import ManifestForm
from torana.plugins.cachebackend import CacheContext, CacheExportError
from torana.plugins.caches.attributes import flag, layer_form, manifest_form, required
from torana.plugins.caches.reading import OriginReader
from torana.plugins.caches.writing import write_cache
from torana.plugins.registry.access import RegistryAccess, default_access
from torana.plugins.registry.client import RegistryClient
from torana.plugins.registry.push import Pusher
from torana.plugins.registry.threads import run_network


class RegistryCaches:
    """The backend."""

    type = "registry"

    def reader(self, attrs: Mapping[str, str], context: CacheContext) -> OriginReader:
        reference = _reference(attrs, "registry cache importer")
        return OriginReader(
            open_origin=partial(RegistryClient, _access(attrs, reference, context)),
            reference=reference,
            content=context.content,
            is_registry=True,
        )

    def writer(self, attrs: Mapping[str, str], context: CacheContext) -> RegistryWriter:
        reference = _reference(attrs, "registry cache exporter")
        return RegistryWriter(
            reference=reference,
            form=layer_form(attrs),
            manifest_form=manifest_form(attrs),
            access=_access(attrs, reference, context),
            content=context.content,
        )


def _reference(attrs: Mapping[str, str], who: str) -> ImageReference:
    return parse_reference(required(attrs, "ref", who)).with_default_tag()


def _access(
    attrs: Mapping[str, str], reference: ImageReference, context: CacheContext
) -> RegistryAccess:
    access = context.registries or default_access()
    is_insecure = flag(attrs, "registry.insecure", False)
    return access.insecure(reference.domain) if is_insecure else access


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryWriter:
    """A `CacheWriter` to one tag."""

    title = "exporting cache to registry"

    reference: ImageReference
    form: LayerForm
    manifest_form: ManifestForm
    access: RegistryAccess
    content: ContentStore

    async def write(self, cache: ExportedCache, progress: CacheProgress) -> Mapping[str, str]:
        pusher = Pusher(self.access, self.reference, self.content, threading.Event())
        sink = _Repository(pusher, self.reference, self.content)
        try:
            return await write_cache(cache, self.manifest_form, sink, self.content, progress)
        except ToranaError as err:
            raise CacheExportError(
                f"failed to export cache to {self.reference}: {err.message}", hint=err.hint
            ) from err


@dataclass(frozen=True, slots=True)
class _Repository:
    """A `Sink`."""

    pusher: Pusher
    reference: ImageReference
    content: ContentStore

    async def layer(self, layer: Layer) -> None:
        blob = layer.descriptor
        if layer.fetch is not None and not self.content.exists(blob.digest):
            # What the registry has, or another of its repositories, need not come here.
            if await run_network(self.pusher.stop, partial(self.pusher.has, blob)):
                return
            await layer.fetch()
        await self.blob(blob)

    async def blob(self, blob: Descriptor) -> None:
        await run_network(self.pusher.stop, partial(self.pusher.blob, blob))

    async def manifest(self, manifest: Descriptor) -> None:
        named = self.reference.digest or self.reference.tag
        await run_network(self.pusher.stop, partial(self.pusher.manifest, manifest, named))
