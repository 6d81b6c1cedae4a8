"""`ImportedCache`: an exported cache as a source of the solver.

It is read when the solver first asks, once; what cannot be read is empty, and the build goes on.
Its results are refs whose layers stay where they are until somebody needs their files.

Spec: the cache reference, section 9.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from torana.core.cache.imagelayers import ImageLayer, ImageLayers, LayerProvider
from torana.core.content.store import ContentStore
from torana.core.errors import NotFoundError, ToranaError
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest
from torana.core.pool import run_blocking, tasks_together
from torana.core.records import dataclass
from torana.core.remotecache.config import CacheConfig, in_order
from torana.core.solver.cache import CacheRecord, Loaded, StoreCache
from torana.core.solver.keys import CacheKey, SelectedKey
from torana.core.solver.memory import MemoryKeyStore
from torana.core.solver.op import Result
from torana.core.solver.stores import Link, Record, root_key


class BlobSource(Protocol):
    """Where the layers of an imported cache are."""

    async def check(self, blob: Descriptor) -> None:
        """Find out whether a blob can be had.

        Raises:
            ToranaError: it cannot.
        """
        ...

    def provider(self) -> LayerProvider:
        """Give what fetches layers."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundCache:
    """An exported cache as it was read. Layers that it does not describe are not there.

    Unless `is_lasting`, what its source has is to be fetched while the build that found it runs.
    """

    config: CacheConfig
    layers: Mapping[Digest, ImageLayer]  # by blob
    blobs: BlobSource
    is_lasting: bool = True


Read = Callable[[], Awaitable[Sequence[FoundCache]]]
"""Reads caches. What goes wrong is told to the user there; then there are none."""


class ImportedCache:
    """A `CacheSource`; belongs to one build, which closes it."""

    def __init__(
        self,
        id: str,
        read: Read,
        *,
        image_layers: ImageLayers,
        content: ContentStore,
        warn: Callable[[str], None],
    ) -> None:
        self.id = id
        self._read = read
        self._keys = _Keys()
        self._results = _Results(self._keys, image_layers, content, warn)
        self.store = _Store(self._keys, self._results, id=id)
        self._reading: asyncio.Task[None] | None = None

    async def prepare(self) -> None:
        if self._reading is None:
            self._reading = asyncio.create_task(self._prepare())
        await asyncio.shield(self._reading)

    async def _prepare(self) -> None:
        for found in await self._read():
            await run_blocking(self._take, found)

    def _take(self, found: FoundCache) -> None:
        """Make keys, links and records of a config that was checked."""
        ids: dict[int, str] = {}
        records = found.config.records
        for number in in_order(records):
            record = records[number]
            links = {
                (position, each.selector, ids[each.link])
                for position, alternatives in enumerate(record.inputs)
                for each in alternatives
            }
            # The same definition has the same id, in whatever cache it is found.
            text = "\n".join([record.digest, *(f"{p} {s} {id}" for p, s, id in sorted(links))])
            id = ids[number] = Digest.of_text(text) if links else str(record.digest)
            for position, selector, source in links:
                self._keys.link(source, position, record.digest, selector, id)
            for blobs, created in _results_of(found.config, number):
                self._results.add(id, _Chain(_described(found, blobs), found, created))

    def query(
        self, inputs: Sequence[SelectedKey], position: int, digest: str, output: int
    ) -> list[CacheKey]:
        return self.store.query(inputs, position, digest, output)

    def records(self, key: CacheKey) -> list[CacheRecord]:
        return [CacheRecord(each.id, each.created, key, self) for each in self.store.records(key)]

    async def load(self, record: CacheRecord) -> list[Loaded]:
        return await self.store.load(record)

    async def close(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)


def _results_of(config: CacheConfig, number: int) -> list[tuple[list[Digest], float]]:
    """Give the blobs of each result of a record, base first, with its time."""
    record = config.records[number]
    found = [(config.chain(each.layer), each.created) for each in record.results]
    for each in record.chains:
        found.append(([config.layers[layer].blob for layer in each.layers], each.created))
    return found


def _described(found: FoundCache, blobs: Sequence[Digest]) -> tuple[ImageLayer, ...]:
    """Give the layers of a result, none if one of them is not described."""
    layers = [found.layers.get(blob) for blob in blobs]
    return tuple(layer for layer in layers if layer is not None) if all(layers) else ()


class _Store(StoreCache):
    def exported_digest(self, link: Link) -> str:
        return link.digest


class _Keys(MemoryKeyStore):
    """Configs have digest and output of an op hashed together; that is how links are found here."""

    def link(self, source: str, position: int, digest: str, selector: str, target: str) -> None:
        super().add_link(source, Link(position, 0, digest, selector or None), target)

    def targets(self, key_id: str, link: Link) -> set[str]:
        return super().targets(key_id, _hashed(link))

    def add_link(self, key_id: str, link: Link, target_id: str) -> None:
        super().add_link(key_id, _hashed(link), target_id)


def _hashed(link: Link) -> Link:
    return Link(link.position, 0, root_key(link.digest, link.output), link.selector)


@dataclass(frozen=True, slots=True)
class _Chain:
    """A result that can be had: its layers, base first, and the cache it was found in."""

    layers: tuple[ImageLayer, ...]
    found: FoundCache
    created: float  # seconds since the epoch

    def is_part_of(self, other: _Chain) -> bool:
        blobs = [layer.blob.digest for layer in self.layers]
        return blobs == [layer.blob.digest for layer in other.layers[: len(blobs)]]


class _Results:
    """A `ChainedResultStore` of results that are elsewhere."""

    def __init__(
        self,
        keys: MemoryKeyStore,
        image_layers: ImageLayers,
        content: ContentStore,
        warn: Callable[[str], None],
    ) -> None:
        self._keys = keys
        self._image_layers = image_layers
        self._content = content
        self._warn = warn
        self._chains: dict[str, _Chain] = {}  # by record id
        self._checked: dict[Digest, ToranaError | None] = {}  # what is wrong with a blob

    def add(self, key_id: str, chain: _Chain) -> None:
        """Note a result of a key; one that cannot be had is left out."""
        if not chain.layers:
            return
        blobs = " ".join(layer.blob.digest for layer in chain.layers)
        record_id = f"imported {Digest.of_text(f'{id(self)} {blobs}')}"
        self._chains.setdefault(record_id, chain)
        self._keys.add_record(key_id, Record(record_id, chain.created))

    def record_id(self, result: Result | None) -> str | None:
        return None  # nothing is stored here

    def exists(self, record_id: str) -> bool:
        return record_id in self._chains

    async def load(self, record_id: str) -> Result | None:
        chain = self._chains.get(record_id)
        if chain is None:
            raise NotFoundError(f"no such cached result: `{record_id}`")
        await self._check(chain)
        return await self._ref(chain)

    async def load_chain(self, key_id: str, record_id: str) -> Mapping[str, Result | None]:
        found: dict[str, Result | None] = {key_id: await self.load(record_id)}
        try:
            for key, part in self._parts(key_id, self._chains[record_id]).items():
                found[key] = await self._ref(part)
        except BaseException:
            for result in found.values():
                if result is not None:
                    await result.release()
            raise
        return found

    def _parts(self, key_id: str, chain: _Chain) -> dict[str, _Chain]:
        """Give results of what a key was made from that are the lower part of a chain."""
        found: dict[str, _Chain] = {}
        seen = {key_id}
        pending = [key_id]
        while pending:
            for source, _ in self._keys.back_links(pending.pop()):
                if source in seen:
                    continue
                seen.add(source)
                pending.append(source)
                for record in self._keys.records(source):
                    part = self._chains.get(record.id)
                    if part is not None and part.is_part_of(chain):
                        found[source] = part
                        break
        return found

    async def _check(self, chain: _Chain) -> None:
        """Find out whether the blobs of a chain can be had.

        Raises:
            ToranaError: one cannot.
        """
        async with tasks_together() as group:
            for layer in chain.layers:
                group.create_task(self._check_blob(chain.found, layer.blob))

    async def _check_blob(self, found: FoundCache, blob: Descriptor) -> None:
        """Ask once for each blob; what is wrong is told once."""
        if blob.digest not in self._checked:
            try:
                await self._find_blob(found, blob)
            except ToranaError as err:
                if self._checked.get(blob.digest) is None:
                    self._warn(f"layer of an imported cache cannot be had: {err.message}")
                self._checked[blob.digest] = err
            else:
                self._checked[blob.digest] = None
        if (problem := self._checked[blob.digest]) is not None:
            raise NotFoundError(problem.message)

    async def _find_blob(self, found: FoundCache, blob: Descriptor) -> None:
        if await run_blocking(self._content.use, blob.digest):
            return
        if found.is_lasting:
            await found.blobs.check(blob)
        else:
            await asyncio.wrap_future(found.blobs.provider().fetch(blob))

    async def _ref(self, chain: _Chain) -> Result | None:
        return await self._image_layers.ref(
            chain.layers,
            chain.found.blobs.provider(),
            description=f"imported {chain.layers[-1].blob.digest}",
            created=chain.created,
        )
