"""`LayerStore`: layers of refs as blobs, made once per ref and compression.

Spec: exporters reference, sections 8 and 9.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import field, replace
from functools import partial
from typing import Final
from weakref import WeakValueDictionary

from torana.core.cache.imagelayers import ImageLayer, LayerMaker, fetched, read_origin
from torana.core.cache.manager import CacheManager
from torana.core.cache.pending import Pending
from torana.core.cache.ref import ImmutableRef
from torana.core.cache.snapshotref import SnapshotRef
from torana.core.content.compression import GZIP, Compression, compressor, open_compressed
from torana.core.content.store import ContentStore
from torana.core.database import pack, unpack
from torana.core.errors import NotFoundError
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest
from torana.core.oci.image import OCI_LAYER
from torana.core.oci.layertypes import layer_compression, oci_layer
from torana.core.pool import run_blocking, tasks_together
from torana.core.records import dataclass
from torana.core.snapshots.estargz import TOC_ANNOTATION, EstargzWriter
from torana.core.snapshots.layertar import write_layer
from torana.core.snapshots.snapshotter import LayerOf
from torana.core.snapshots.tarsplice import TarSplice
from torana.core.snapshots.tartimes import TarTimes

_CHUNK: Final = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer of an image; the descriptor has OCI media types."""

    descriptor: Descriptor
    diff_id: Digest  # digest of the plain tar
    created: float  # seconds since the epoch
    description: str
    is_clamped: bool = False  # whether its times were limited
    # Brings the blob here; None where it is. Works as long as somebody holds the ref.
    fetch: Callable[[], Awaitable[None]] | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerForm:
    """How layers are wanted. Those that came as blobs stay as they are, but for what is said here.

    `latest` (seconds) clamps the times in them, but not in the layers of the base image, `base`.
    With `is_lazy` a blob that nobody has fetched stays where it is, if it is to stay as it is.
    """

    compression: Compression = GZIP
    is_forced: bool = False  # layers that came in another compression are converted
    latest: int | None = None
    base: tuple[Digest, ...] = ()  # diff ids, base first
    is_lazy: bool = False

    @property
    def key(self) -> str:
        """Identity for stored blobs."""
        compression = self.compression.key
        return compression if self.latest is None else f"{compression}@{self.latest}"

    def takes(self, origin: ImageLayer) -> bool:
        """Say whether a layer that came as a blob stays that very blob."""
        if self.latest is not None:
            return False
        given = layer_compression(origin.blob.media_type)
        if TOC_ANNOTATION in origin.blob.annotations:
            given = "estargz"
        return not self.is_forced or given == self.compression.type


class LayerStore:
    """Makes layers from refs."""

    def __init__(self, refs: CacheManager, content: ContentStore) -> None:
        self._refs = refs
        self._content = content
        self._locks: WeakValueDictionary[tuple[LayerOf, str], asyncio.Lock] = WeakValueDictionary()

    async def layers(self, ref: ImmutableRef | None, form: LayerForm) -> list[Layer]:
        """Give the layers of `ref`, base first.

        A merge has the layers of what was merged, a diff those above its lower side: same blobs.
        """
        layers = () if ref is None else ref.layers
        plain = replace(form, latest=None)
        kept = self._base_count(layers, form)
        forms = [plain if number < kept else form for number in range(len(layers))]
        wanted = list(zip(layers, forms, strict=True))
        async with tasks_together() as group:
            made = {each: group.create_task(self._layer(*each)) for each in dict.fromkeys(wanted)}
        return [made[each].result() for each in wanted]

    async def layers_at_hand(self, ref: ImmutableRef, form: LayerForm) -> list[Layer] | None:
        """Give the layers of `ref` as `layers` does lazily, None if that takes any work."""
        return await run_blocking(self._at_hand, ref.layers, form)

    def _at_hand(self, layers: Sequence[LayerOf], form: LayerForm) -> list[Layer] | None:
        found: list[Layer] = []
        for each in layers:
            layer = self._known(each, form)
            if layer is None:
                return None
            found.append(layer)
        return found

    def _known(self, layer: LayerOf, form: LayerForm) -> Layer | None:
        """Give a layer whose blob was made before or came from elsewhere, else None."""
        holder = layer.upper or layer.lower
        assert holder is not None
        is_own = layer.upper is not None and self._refs.parent_of(holder) == layer.lower
        pending = self._refs.pending_of(holder)
        if pending is not None:
            maker = pending.maker
            if is_own and isinstance(maker, LayerMaker) and form.takes(maker.origin):
                return self._lazy(maker, pending)
            return None
        record = self._refs.borrow(holder)
        origin = read_origin(self._refs, holder) if is_own else None
        if origin is not None and form.takes(origin) and self._content.use(origin.blob.digest):
            return self._imported(origin, holder, record, form)
        blob = self._stored(holder, _key(layer, form, is_own=is_own))
        return None if blob is None else _layer(blob, layer, record, form, is_own=is_own)

    def _base_count(self, layers: Sequence[LayerOf], form: LayerForm) -> int:
        """Count the layers of the base image, whose times are kept."""
        if form.latest is None:
            return 0
        for number, (layer, diff_id) in enumerate(zip(layers, form.base, strict=False)):
            origin = self._origin(layer)
            if origin is None or origin.diff_id != diff_id:
                return number
        return min(len(layers), len(form.base))

    def _origin(self, layer: LayerOf) -> ImageLayer | None:
        """Give the blob that a layer came as, or would come as."""
        if layer.upper is None or self._refs.parent_of(layer.upper) != layer.lower:
            return None
        pending = self._refs.pending_of(layer.upper)
        if pending is not None and isinstance(pending.maker, LayerMaker):
            return pending.maker.origin
        return read_origin(self._refs, layer.upper)

    async def _layer(self, layer: LayerOf, form: LayerForm) -> Layer:
        # Several exports of one build may want the same: it is made once.
        key = layer, form.key
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        async with lock:
            return await self._locked_layer(layer, form)

    async def _locked_layer(self, layer: LayerOf, form: LayerForm) -> Layer:
        holder = layer.upper or layer.lower
        assert holder is not None
        is_own = layer.upper is not None and self._refs.parent_of(holder) == layer.lower
        pending = self._refs.pending_of(holder)
        if pending is not None and is_own:
            maker = pending.maker
            if isinstance(maker, LayerMaker):
                # The blob is all that is wanted; nothing is unpacked.
                if form.is_lazy and form.takes(maker.origin):
                    return self._lazy(maker, pending)
                await fetched(maker)
                return await run_blocking(self._imported, maker.origin, holder, pending, form)
        for name in (layer.upper, layer.lower):
            if name is not None and (below := self._refs.pending_of(name)) is not None:
                await below.ready()
        return await run_blocking(self._made, layer, is_own, form)

    def _lazy(self, maker: LayerMaker, pending: Pending) -> Layer:
        """Give a layer whose blob may still be elsewhere."""
        blob = maker.origin.blob
        is_here = self._content.use(blob.digest)
        return Layer(
            descriptor=replace(blob, media_type=oci_layer(blob.media_type)),
            diff_id=maker.origin.diff_id,
            created=pending.created,
            description=pending.description,
            fetch=None if is_here else partial(fetched, maker),
        )

    def _made(self, layer: LayerOf, is_own: bool, form: LayerForm) -> Layer:
        holder = layer.upper or layer.lower
        assert holder is not None
        record = self._refs.borrow(holder)
        origin = read_origin(self._refs, holder) if is_own else None
        if origin is not None and self._content.use(origin.blob.digest):
            return self._imported(origin, holder, record, form)
        key = _key(layer, form, is_own=is_own)
        blob = self._stored(holder, key)
        if blob is None:
            splice = self._splice(holder, key) if is_own else nullcontext()
            with splice as entries:
                blob = self._write(layer, form, entries)
            self._store(holder, key, blob)
        return _layer(blob, layer, record, form, is_own=is_own)

    def _imported(
        self, origin: ImageLayer, holder: str, ref: Pending | SnapshotRef, form: LayerForm
    ) -> Layer:
        """Give a layer that came as a blob: that blob, or one that was made of it."""
        if form.takes(origin):
            named = oci_layer(origin.blob.media_type)
            descriptor, diff_id = replace(origin.blob, media_type=named), origin.diff_id
        else:
            blob = self._stored(holder, form.key)
            if blob is None:
                blob = self._converted(origin, form)
                if isinstance(ref, SnapshotRef):  # one that is pending has no row to keep it
                    self._store(holder, form.key, blob)
            descriptor, diff_id = blob.descriptor(form), blob.diff_id
        return Layer(
            descriptor=descriptor,
            diff_id=diff_id,
            created=ref.created,
            description=ref.description,
            is_clamped=form.latest is not None,
        )

    def _converted(self, origin: ImageLayer, form: LayerForm) -> _Blob:
        """Write a blob again, in another compression or with other times."""
        with self._content.open(origin.blob.digest) as file, self._content.writer() as writer:
            tee = _tee(writer, form.compression)
            times = None if form.latest is None else TarTimes(tee, form.latest)
            plain = open_compressed(file)
            while data := plain.read(_CHUNK):
                (times or tee).write(data)
            if times is not None:
                times.finish()
            diff_id, notes = tee.finish()
            return _Blob(writer.commit(), writer.size, diff_id, notes)

    @contextmanager
    def _splice(self, ref_id: str, key: str) -> Iterator[TarSplice | None]:
        """Open the layer of the snapshot that `ref_id` shares files with, if it is there."""
        with self._refs.copies.origin(ref_id) as earlier:
            known = None if earlier is None else self._stored(earlier.id, key)
            if earlier is None or known is None:
                yield None
                return
            try:
                blob = self._content.open(known.digest)
            except NotFoundError:
                yield None
                return
            with blob:
                yield TarSplice(open_compressed(blob), self._refs.copies.layer(earlier))

    def _stored(self, ref_id: str, key: str) -> _Blob | None:
        """Give a blob that was made before, if it still is here."""
        row = self._refs.database.row(
            "SELECT value FROM layers WHERE ref = ? AND compression = ?", (ref_id, key)
        )
        raw = None if row is None else unpack(row[0])
        if raw is None or not self._content.use(Digest(raw["digest"])):
            return None
        notes = raw.get("annotations") or {}
        return _Blob(Digest(raw["digest"]), raw["size"], Digest(raw["diff_id"]), notes)

    def _store(self, ref_id: str, key: str, blob: _Blob) -> None:
        raw: dict[str, object] = {
            "digest": blob.digest,
            "size": blob.size,
            "diff_id": blob.diff_id,
        }
        if blob.annotations:
            raw["annotations"] = dict(blob.annotations)
        self._refs.database.execute(
            "INSERT OR REPLACE INTO layers VALUES (?, ?, ?)", (ref_id, key, pack(raw))
        )

    def _write(self, layer: LayerOf, form: LayerForm, splice: TarSplice | None) -> _Blob:
        snapshots = self._refs.snapshots
        with ExitStack() as stack:
            writer = stack.enter_context(self._content.writer())
            root = b""
            if layer.upper is not None:
                mounted = stack.enter_context(snapshots.mount(layer.upper, readonly=True))
                root = os.fsencode(mounted)
            tee = _tee(writer, form.compression)
            changes = snapshots.changes(layer.upper, layer.lower)
            write_layer(changes, root, tee, latest=form.latest, splice=splice)
            diff_id, notes = tee.finish()
            return _Blob(writer.commit(), writer.size, diff_id, notes)


@dataclass(frozen=True, slots=True)
class _Blob:
    """A layer that was made here."""

    digest: Digest
    size: int  # bytes
    diff_id: Digest
    annotations: Mapping[str, str] = field(default_factory=dict)

    def descriptor(self, form: LayerForm) -> Descriptor:
        return Descriptor(
            media_type=OCI_LAYER + form.compression.suffix,
            digest=self.digest,
            size=self.size,
            annotations=dict(self.annotations),
        )


def _key(layer: LayerOf, form: LayerForm, *, is_own: bool) -> str:
    """Name what is stored of a layer; `is_own`: it is what its upper ref changes in its parent."""
    if is_own:
        return form.key
    return f"{form.key} {'from' if layer.upper else 'gone'} {layer.lower or ''}"


def _layer(
    blob: _Blob, layer: LayerOf, record: SnapshotRef, form: LayerForm, *, is_own: bool
) -> Layer:
    return Layer(
        descriptor=blob.descriptor(form),
        diff_id=blob.diff_id,
        created=record.created,
        description=record.description if is_own else layer.description,
        is_clamped=form.latest is not None,
    )


def _tee(sink: object, compression: Compression) -> _Tee | EstargzWriter:
    if compression.type == "estargz":
        return EstargzWriter(sink, compression.level)  # type: ignore[arg-type]  # as below
    return _Tee(sink, compression)


class _Tee:
    """Hashes the plain bytes and passes them on to the compressor, in big pieces."""

    def __init__(self, sink: object, compression: Compression) -> None:
        self._compressor = compressor(compression, sink)  # type: ignore[arg-type]  # writers of blobs take bytes
        self._hash = hashlib.sha256()
        self._buffer = bytearray()

    def write(self, data: bytes) -> int:
        if len(data) >= _CHUNK:
            self._drain()
            self._pass(data)
            return len(data)
        self._buffer += data
        if len(self._buffer) >= _CHUNK:
            self._drain()
        return len(data)

    def _drain(self) -> None:
        if self._buffer:
            self._pass(bytes(self._buffer))
            self._buffer.clear()

    def _pass(self, data: bytes) -> None:
        self._hash.update(data)
        self._compressor.write(data)

    def finish(self) -> tuple[Digest, Mapping[str, str]]:
        self._drain()
        self._compressor.finish()
        return Digest("sha256:" + self._hash.hexdigest()), {}
