"""The `local` cache: a folder of the client in the OCI layout.

Blobs are written here; the entry in `index.json` is the client's to make, of what is answered.

Spec: the cache reference, section 4, local.
"""

from __future__ import annotations

from collections.abc import Mapping

from torana.core.cache.layers import Layer, LayerForm
from torana.core.content.store import ContentStore
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest
from torana.core.oci.reference import ImageReference
from torana.core.records import dataclass
from torana.core.remotecache.backend import CacheProgress
from torana.core.remotecache.chains import ExportedCache
from torana.core.remotecache.manifest import ManifestForm
from torana.plugins.cachebackend import CacheContext, CacheOptionError, ClientLayouts
from torana.plugins.caches.attributes import layer_form, manifest_form, required
from torana.plugins.caches.reading import OriginReader
from torana.plugins.caches.writing import write_cache


class LocalCaches:
    """The backend."""

    type = "local"

    def reader(self, attrs: Mapping[str, str], context: CacheContext) -> OriginReader:
        if not attrs.get("digest"):
            raise CacheOptionError("local cache importer requires explicit digest")
        folder = required(attrs, "src", "local cache importer")
        digest = Digest.parse(attrs["digest"])
        return OriginReader(
            open_origin=context.layouts.origin(folder),
            reference=ImageReference("local", folder.strip("/"), digest=digest),
            content=context.content,
            is_lasting=context.layouts.is_lasting,
        )

    def writer(self, attrs: Mapping[str, str], context: CacheContext) -> LocalWriter:
        return LocalWriter(
            folder=required(attrs, "dest", "local cache exporter"),
            form=layer_form(attrs),
            manifest_form=manifest_form(attrs),
            layouts=context.layouts,
            content=context.content,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalWriter:
    """A `CacheWriter` to one folder."""

    title = "exporting cache to client directory"

    folder: str
    form: LayerForm
    manifest_form: ManifestForm
    layouts: ClientLayouts
    content: ContentStore

    async def write(self, cache: ExportedCache, progress: CacheProgress) -> Mapping[str, str]:
        sink = _Folder(self.folder, self.layouts, self.content)
        return await write_cache(cache, self.manifest_form, sink, self.content, progress)


@dataclass(frozen=True, slots=True)
class _Folder:
    """A `Sink`."""

    folder: str
    layouts: ClientLayouts
    content: ContentStore

    async def layer(self, layer: Layer) -> None:
        if layer.fetch is not None and not self.content.exists(layer.descriptor.digest):
            await layer.fetch()
        await self.blob(layer.descriptor)

    async def blob(self, blob: Descriptor) -> None:
        await self.layouts.put(self.folder, blob, self.content)

    async def manifest(self, manifest: Descriptor) -> None:
        await self.blob(manifest)
