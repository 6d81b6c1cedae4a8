"""Layers of an image as refs: pending until somebody needs their files.

Layers are known by their chain id, so that images share what they have in common. A blob that is
fetched stays in the store and is recorded as the layer's: exports reuse it as it is. Fetching goes
on while layers that are here are unpacked.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import IO, Any, Final, Protocol
from weakref import WeakValueDictionary

from torana.core.cache.lease import HoldKind
from torana.core.cache.manager import CacheManager
from torana.core.cache.pending import Pending, PendingRef
from torana.core.cache.records import RefRecord
from torana.core.cache.ref import ImmutableRef, RecordType
from torana.core.cache.snapshotref import SnapshotRef
from torana.core.content.compression import open_compressed
from torana.core.content.store import ContentStore
from torana.core.database import pack, unpack
from torana.core.errors import CorruptError, NotFoundError
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest
from torana.core.pool import run_blocking
from torana.core.records import dataclass
from torana.core.snapshots.extract import apply_layer
from torana.core.snapshots.snapshotter import LayerOf

ORIGIN: Final = "origin"  # in place of a compression: the blob that a layer came as
_DOCUMENT: Final = "document "  # in place of a compression: a manifest or config
_KEY: Final = "image-layer:"
_CHUNK: Final = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLayer:
    """A layer of a manifest, with the digest that the config has for it.

    `description` and `created` (seconds since the epoch) are those of the layer itself, where they
    are known.
    """

    blob: Descriptor
    diff_id: Digest
    description: str = ""
    created: float | None = None


class LayerProvider(Protocol):
    """Brings blobs of one image here, for as long as its refs live. Any thread may call."""

    def fetch(self, blob: Descriptor) -> Future[None]:
        """Begin to bring a blob into the store; several are fetched at once.

        The future fails with a `ToranaError` that names host and image.
        """
        ...

    def extracting(self, blob: Descriptor, *, done: bool) -> None:
        """Hear that a layer is being unpacked."""
        ...

    def stop(self) -> None:
        """End what is being fetched; `fetch` may begin again."""
        ...


def chain_ids(diff_ids: Sequence[Digest]) -> list[Digest]:
    """Give the chain id of each layer, base first.

    Spec: OCI image specification, Layer ChainID.
    """
    found: list[Digest] = []
    for diff_id in diff_ids:
        found.append(Digest.of_text(f"{found[-1]} {diff_id}") if found else diff_id)
    return found


class ImageLayers:
    """Makes refs of images; those of one store and process share what is pending."""

    def __init__(self, refs: CacheManager, content: ContentStore) -> None:
        self._refs = refs
        self._content = content
        self._pending: WeakValueDictionary[str, Pending] = WeakValueDictionary()

    async def ref(
        self,
        layers: Sequence[ImageLayer],
        provider: LayerProvider,
        *,
        description: str,
        created: float,
        record_type: RecordType = RecordType.REGULAR,
        documents: Sequence[Digest] = (),
    ) -> ImmutableRef | None:
        """Give a handle on the image's tree, nothing fetched; None without layers.

        `documents` are the blobs that describe the image: they are kept as long as its tree, so
        that an image that was here once can be used without its registry.
        """
        ref: ImmutableRef | None = None
        chain = chain_ids([layer.diff_id for layer in layers])
        for number, (layer, chain_id) in enumerate(zip(layers, chain, strict=True)):
            is_top = number == len(layers) - 1
            part = _Part(
                layer=layer,
                chain_id=chain_id,
                provider=provider,
                description=layer.description or description,
                created=created if layer.created is None else layer.created,
                record_type=record_type if is_top else RecordType.REGULAR,
                documents=tuple(documents) if is_top else (),
            )
            ref = await self._layer(ref, part)
        return ref

    async def _layer(self, parent: ImmutableRef | None, part: _Part) -> ImmutableRef:
        """Find or begin one layer; takes over the handle on `parent`."""
        found: ImmutableRef | None = await run_blocking(self._find, part)
        if found is None:
            pending = self._pending.get(part.chain_id)
            if pending is not None and pending.is_held:
                found = pending.hold()
        if found is not None:
            if parent is not None:
                await parent.release()
            return found
        id = secrets.token_hex(12)
        below = () if parent is None else parent.layers
        layer_of = LayerOf(id, None if parent is None else parent.id)
        maker = LayerMaker(self._refs, self._content, id, parent, part)
        pending = Pending(
            id,
            maker,
            parent=parent,
            layers=(*below, layer_of),
            description=part.description,
            created=part.created,
        )
        self._pending[part.chain_id] = self._refs.pending[id] = pending
        return pending.hold()

    def _find(self, part: _Part) -> SnapshotRef | None:
        """Give a handle on a layer that was unpacked before."""
        id = self._refs.records.find_key(_KEY + part.chain_id)
        if id is None:
            return None
        try:
            found = self._refs.find(id)
        except NotFoundError:
            return None
        _keep(self._refs, id, part.documents)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What one layer is to be made of."""

    layer: ImageLayer
    chain_id: Digest
    provider: LayerProvider
    description: str
    created: float
    record_type: RecordType
    documents: tuple[Digest, ...]


class LayerMaker:
    """Fetches and unpacks one layer, those below it first."""

    def __init__(
        self,
        refs: CacheManager,
        content: ContentStore,
        id: str,
        parent: ImmutableRef | None,
        part: _Part,
    ) -> None:
        self._refs = refs
        self._content = content
        self._id = id
        self._parent = parent  # a handle of our own
        self._part = part
        self._lock = threading.Lock()
        self._fetching: Future[None] | None = None

    @property
    def origin(self) -> ImageLayer:
        return self._part.layer

    def fetch(self) -> Future[None]:
        """Begin to fetch the blob, unless that is under way or done."""
        blob = self._part.layer.blob
        with self._lock:
            if self._fetching is None or self._fetching.done():
                if self._content.use(blob.digest):
                    self._fetching = Future()
                    self._fetching.set_result(None)
                else:
                    self._fetching = self._part.provider.fetch(blob)
            return self._fetching

    def make(self) -> SnapshotRef:
        if self._refs.snapshots.exists(self._id):
            return self._refs.find(self._id)  # made before, and let go since
        self._fetch_all()
        if self._parent is not None:
            self._parent.make()
        self.fetch().result()
        self._part.provider.extracting(self._part.layer.blob, done=False)
        made = self._unpack()
        self._part.provider.extracting(self._part.layer.blob, done=True)
        return made

    def _fetch_all(self) -> None:
        """Begin with all that are missing, base first: that is the order they are wanted in."""
        missing = [self]
        while True:
            below = missing[-1]._parent
            if not isinstance(below, PendingRef) or not below.pending.is_open:
                break
            maker = below.pending.maker
            if not isinstance(maker, LayerMaker):
                break
            missing.append(maker)
        for maker in reversed(missing):
            maker.fetch()

    def _unpack(self) -> SnapshotRef:
        refs, blob = self._refs, self._part.layer.blob
        below = None if self._parent is None else self._parent.id
        refs.lease.hold(HoldKind.REF, self._id)
        try:
            refs.snapshots.prepare(self._id, below)
            with (
                refs.snapshots.mount(self._id, readonly=False) as root,
                self._plain(blob) as file,
            ):
                plain = _Hashed(file)
                try:
                    apply_layer(plain, root, again=lambda: self._plain(blob))
                    plain.drain()
                except (EOFError, ValueError) as err:
                    raise CorruptError(f"layer cannot be unpacked: {blob.digest}: {err}") from err
            if plain.digest() != self._part.layer.diff_id:
                raise CorruptError(
                    f"layer {blob.digest} has diff id {plain.digest()}, "
                    f"expected {self._part.layer.diff_id}"
                )
            refs.snapshots.commit(self._id, self._id)
            record = self._record(below)
        except BaseException:
            refs.snapshots.remove(self._id)
            refs.lease.release(HoldKind.REF, self._id)
            refs.snapshots.sweep()  # it may have filled the disk
            raise
        return SnapshotRef(refs, record)  # takes over the hold

    @contextmanager
    def _plain(self, blob: Descriptor) -> Iterator[IO[bytes]]:
        with self._content.open(blob.digest) as file:
            yield open_compressed(file)

    def _record(self, below: str | None) -> RefRecord:
        part, records = self._part, self._refs.records
        key = _KEY + part.chain_id
        with self._refs.database.transaction():
            is_known = records.find_key(key) is not None  # by another process meanwhile
            record = records.add(
                self._id,
                parents=() if below is None else (below,),
                description=part.description,
                record_type=part.record_type,
                created=part.layer.created,
                key=None if is_known else key,
            )
            write_origin(self._refs, self._id, part.layer)
            _keep(self._refs, self._id, part.documents)
        return record

    def stop(self) -> None:
        self._part.provider.stop()

    async def release(self) -> None:
        if self._parent is not None:
            await self._parent.release()


def _keep(refs: CacheManager, ref_id: str, documents: Sequence[Digest]) -> None:
    """Tie blobs to a record: rows of its layers are what keeps blobs."""
    for digest in documents:
        refs.database.execute(
            "INSERT OR REPLACE INTO layers VALUES (?, ?, ?)",
            (ref_id, f"{_DOCUMENT}{digest}", pack({"digest": digest, "size": 0})),
        )


async def fetched(maker: LayerMaker) -> None:
    """Wait for the blob of a layer; cancelling stops what is being fetched for its image."""
    try:
        await asyncio.shield(asyncio.wrap_future(maker.fetch()))
    except asyncio.CancelledError:
        maker.stop()
        raise


def write_origin(refs: CacheManager, ref_id: str, layer: ImageLayer) -> None:
    """Remember the blob that a layer came as; from now on it is kept as long as the layer."""
    value = {"diff_id": layer.diff_id, "descriptor": layer.blob.to_dict()}
    refs.database.execute(
        "INSERT OR REPLACE INTO layers VALUES (?, ?, ?)",
        (ref_id, ORIGIN, pack({**value, "digest": layer.blob.digest, "size": layer.blob.size})),
    )


def read_origin(refs: CacheManager, ref_id: str) -> ImageLayer | None:
    """Give the blob that a layer came as, None if it was made here."""
    row = refs.database.row(
        "SELECT value FROM layers WHERE ref = ? AND compression = ?", (ref_id, ORIGIN)
    )
    raw: Any = None if row is None else unpack(row[0])
    if raw is None:
        return None
    return ImageLayer(blob=Descriptor.from_dict(raw["descriptor"]), diff_id=Digest(raw["diff_id"]))


class _Hashed:
    """Passes plain bytes on and hashes them."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(size)
        self._hash.update(data)
        return data

    def drain(self) -> None:
        """Read what comes after the end of the archive."""
        while self.read(_CHUNK):
            pass

    def digest(self) -> Digest:
        return Digest("sha256:" + self._hash.hexdigest())
