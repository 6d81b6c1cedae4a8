"""`LayerStore`: layers of refs as blobs, made once per ref and compression.

Spec: exporters reference, sections 8 and 9.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Final

from torana.core.cache.imagelayers import ImageLayer, LayerMaker, fetched, read_origin
from torana.core.cache.manager import CacheManager
from torana.core.cache.pending import Pending
from torana.core.cache.ref import ImmutableRef
from torana.core.cache.snapshotref import SnapshotRef
from torana.core.content.compression import Compression, compressor, open_compressed
from torana.core.content.store import ContentStore
from torana.core.database import pack, unpack
from torana.core.errors import NotFoundError
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest
from torana.core.oci.image import DOCKER_LAYER, OCI_LAYER
from torana.core.pool import run_blocking, tasks_together
from torana.core.snapshots.layertar import write_layer
from torana.core.snapshots.snapshotter import LayerOf
from torana.core.snapshots.tarsplice import TarSplice

_DOCKER_SUFFIXES: Final = {"": "", ".gzip": "+gzip", ".zstd": "+zstd"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer of an image; the descriptor has OCI media types."""

    descriptor: Descriptor
    diff_id: Digest  # digest of the plain tar
    created: float  # seconds since the epoch
    description: str


class LayerStore:
    """Makes layers from refs."""

    def __init__(self, refs: CacheManager, content: ContentStore) -> None:
        self._refs = refs
        self._content = content

    async def layers(
        self, ref: ImmutableRef | None, compression: Compression, *, latest: int | None = None
    ) -> list[Layer]:
        """Give the layers of `ref`, base first; `latest` (seconds) clamps the times in them.

        A merge has the layers of what was merged, a diff those above its lower side: same blobs.
        """
        layers = () if ref is None else ref.layers
        async with tasks_together() as group:
            made = {
                layer: group.create_task(self._layer(layer, compression, latest))
                for layer in dict.fromkeys(layers)
            }
        return [made[layer].result() for layer in layers]

    async def _layer(self, layer: LayerOf, compression: Compression, latest: int | None) -> Layer:
        holder = layer.upper or layer.lower
        assert holder is not None
        is_own = layer.upper is not None and self._refs.parent_of(holder) == layer.lower
        pending = self._refs.pending_of(holder)
        if pending is not None and is_own:
            maker = pending.maker
            if isinstance(maker, LayerMaker):
                # The blob is all that is wanted; nothing is unpacked.
                await fetched(maker)
                return _imported(maker.origin, pending)
        for name in (layer.upper, layer.lower):
            if name is not None and (below := self._refs.pending_of(name)) is not None:
                await below.ready()
        return await run_blocking(self._made, layer, is_own, compression, latest)

    def _made(
        self, layer: LayerOf, is_own: bool, compression: Compression, latest: int | None
    ) -> Layer:
        holder = layer.upper or layer.lower
        assert holder is not None
        record = self._refs.borrow(holder)
        origin = read_origin(self._refs, holder) if is_own else None
        if origin is not None and self._content.use(origin.blob.digest):
            return _imported(origin, record)
        key = compression.key if latest is None else f"{compression.key}@{latest}"
        if not is_own:
            key = f"{key} {'from' if layer.upper else 'gone'} {layer.lower or ''}"
        database = self._refs.database
        row = database.row(
            "SELECT value FROM layers WHERE ref = ? AND compression = ?", (holder, key)
        )
        raw = None if row is None else unpack(row[0])
        if raw is None or not self._content.use(Digest(raw["digest"])):
            splice = self._splice(holder, key) if is_own else nullcontext()
            with splice as entries:
                raw = self._write(layer, compression, latest, entries)
            database.execute(
                "INSERT OR REPLACE INTO layers VALUES (?, ?, ?)", (holder, key, pack(raw))
            )
        descriptor = Descriptor(
            media_type=OCI_LAYER + compression.suffix,
            digest=Digest(raw["digest"]),
            size=raw["size"],
        )
        return Layer(
            descriptor=descriptor,
            diff_id=Digest(raw["diff_id"]),
            created=record.created,
            description=record.description if is_own else layer.description,
        )

    @contextmanager
    def _splice(self, ref_id: str, key: str) -> Iterator[TarSplice | None]:
        """Open the layer of the snapshot that `ref_id` shares files with, if it is there."""
        with self._refs.copies.origin(ref_id) as earlier:
            digest = None if earlier is None else self._stored(earlier.id, key)
            if earlier is None or digest is None:
                yield None
                return
            try:
                blob = self._content.open(digest)
            except NotFoundError:
                yield None
                return
            with blob:
                yield TarSplice(open_compressed(blob), self._refs.copies.layer(earlier))

    def _stored(self, ref_id: str, key: str) -> Digest | None:
        row = self._refs.database.row(
            "SELECT value FROM layers WHERE ref = ? AND compression = ?", (ref_id, key)
        )
        raw = None if row is None else unpack(row[0])
        return None if raw is None else Digest(raw["digest"])

    def _write(
        self,
        layer: LayerOf,
        compression: Compression,
        latest: int | None,
        splice: TarSplice | None,
    ) -> dict[str, Any]:
        snapshots = self._refs.snapshots
        with ExitStack() as stack:
            writer = stack.enter_context(self._content.writer())
            root = b""
            if layer.upper is not None:
                mounted = stack.enter_context(snapshots.mount(layer.upper, readonly=True))
                root = os.fsencode(mounted)
            tee = _Tee(writer, compression)
            changes = snapshots.changes(layer.upper, layer.lower)
            write_layer(changes, root, tee, latest=latest, splice=splice)
            diff_id = tee.finish()
            digest = writer.commit()
            return {"digest": digest, "size": writer.size, "diff_id": diff_id}


def _imported(origin: ImageLayer, ref: Pending | SnapshotRef) -> Layer:
    """Give a layer that came as a blob: that very blob, with the OCI name of its kind."""
    media_type = origin.blob.media_type
    for docker, suffix in _DOCKER_SUFFIXES.items():
        if media_type == DOCKER_LAYER + docker:
            media_type = OCI_LAYER + suffix
    descriptor = replace(origin.blob, media_type=media_type)
    return Layer(
        descriptor=descriptor,
        diff_id=origin.diff_id,
        created=ref.created,
        description=ref.description,
    )


class _Tee:
    """Hashes the plain bytes and passes them on to the compressor, in big pieces."""

    def __init__(self, sink: object, compression: Compression) -> None:
        self._compressor = compressor(compression, sink)  # type: ignore[arg-type]  # writers of blobs take bytes
        self._hash = hashlib.sha256()
        self._buffer = bytearray()

    def write(self, data: bytes) -> int:
        self._buffer += data
        if len(self._buffer) >= 1 << 18:
            self._drain()
        return len(data)

    def _drain(self) -> None:
        data = bytes(self._buffer)
        self._buffer.clear()
        self._hash.update(data)
        self._compressor.write(data)

    def finish(self) -> Digest:
        self._drain()
        self._compressor.finish()
        return Digest("sha256:" + self._hash.hexdigest())
