"""`LayerStore`: layers of refs as blobs, made once per ref and compression.

Spec: exporters reference, sections 8 and 9.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from dataclasses import dataclass
from typing import Any

from torana.core.cache.manager import CacheManager
from torana.core.cache.ref import ImmutableRef
from torana.core.content.compression import Compression, compressor
from torana.core.content.store import ContentStore
from torana.core.database import pack, unpack
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest
from torana.core.oci.image import OCI_LAYER
from torana.core.pool import run_blocking
from torana.core.snapshots.layertar import write_layer


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
        """Give the layers of `ref`, base first; `latest` (seconds) clamps the times in them."""
        chain: list[ImmutableRef] = []
        while ref is not None:
            chain.append(ref)
            ref = ref.parent
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(run_blocking(self._layer, link, compression, latest))
                for link in reversed(chain)
            ]
        return [task.result() for task in tasks]

    def _layer(self, ref: ImmutableRef, compression: Compression, latest: int | None) -> Layer:
        key = compression.key if latest is None else f"{compression.key}@{latest}"
        database = self._refs.database
        row = database.row(
            "SELECT value FROM layers WHERE ref = ? AND compression = ?", (ref.id, key)
        )
        raw = None if row is None else unpack(row[0])
        if raw is None or not self._content.use(Digest(raw["digest"])):
            raw = self._write(ref, compression, latest)
            database.execute(
                "INSERT OR REPLACE INTO layers VALUES (?, ?, ?)", (ref.id, key, pack(raw))
            )
        descriptor = Descriptor(
            media_type=OCI_LAYER + compression.suffix,
            digest=Digest(raw["digest"]),
            size=raw["size"],
        )
        return Layer(
            descriptor=descriptor,
            diff_id=Digest(raw["diff_id"]),
            created=ref.created,
            description=ref.description,
        )

    def _write(
        self, ref: ImmutableRef, compression: Compression, latest: int | None
    ) -> dict[str, Any]:
        snapshots = self._refs.snapshots
        below = None if ref.parent is None else ref.parent.snapshot_name
        with (
            self._content.writer() as writer,
            snapshots.mount(ref.snapshot_name, readonly=True) as root,
        ):
            tee = _Tee(writer, compression)
            changes = snapshots.changes(ref.snapshot_name, below)
            write_layer(changes, os.fsencode(root), tee, latest=latest)
            diff_id = tee.finish()
            digest = writer.commit()
            return {"digest": digest, "size": writer.size, "diff_id": diff_id}


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
