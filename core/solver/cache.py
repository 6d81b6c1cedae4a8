"""`CacheSource`: one place to look results up in; `StoreCache`: one made of two stores.

`CombinedCache` asks the main store and imported ones at once; what is loaded from an imported one
is saved in the main store with its original time.

Spec: the solver reference, section 7.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Protocol, cast

from torana.core.errors import NotFoundError
from torana.core.pool import tasks_together
from torana.core.records import dataclass
from torana.core.solver.keys import CacheKey, SelectedKey
from torana.core.solver.op import Result
from torana.core.solver.stores import (
    CONTENT_OUTPUT,
    ChainedResultStore,
    KeyStore,
    Link,
    Record,
    ResultStore,
    root_key,
)


@dataclass(frozen=True, slots=True, eq=False)
class CacheRecord:
    """A stored result of `key` in `source`; of two equally new ones the imported is taken."""

    id: str
    created: float  # seconds since the epoch
    key: CacheKey
    source: CacheSource
    is_imported: bool = False

    @property
    def rank(self) -> tuple[float, bool, str]:
        """Give what to sort by, best first."""
        return (-self.created, not self.is_imported, self.id)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A result with the key it is of; the handle is the caller's."""

    result: Result | None
    key: CacheKey
    created: float  # seconds since the epoch


class CacheSource(Protocol):
    """Where keys and results are looked up. Only `prepare` and `load` may take time."""

    @property
    def id(self) -> str:
        """Stable id: sources with equal ids are one."""
        ...

    async def prepare(self) -> None:
        """Make queries possible (fetch a manifest); a source that cannot be read is empty."""
        ...

    def query(
        self, inputs: Sequence[SelectedKey], position: int, digest: str, output: int
    ) -> list[CacheKey]:
        """Give the keys that the op `digest` has by any of `inputs`; of a root when there are none.

        All of `inputs` lead to all keys found from then on.
        """
        ...

    def records(self, key: CacheKey) -> list[CacheRecord]:
        """Give the records whose results exist."""
        ...

    async def load(self, record: CacheRecord) -> list[Loaded]:
        """Give a result and those of its ancestors that come with it, the result first.

        Raises:
            NotFoundError: it is gone.
        """
        ...


class StoreCache:
    """A `CacheSource` over a key store and a result store, that also takes new results."""

    def __init__(self, keys: KeyStore, results: ResultStore, *, id: str = "main") -> None:
        self.id = id
        self.keys = keys
        self.results = results

    async def prepare(self) -> None:
        """Nothing is to be fetched."""

    def exported_digest(self, link: Link) -> str:
        """Give what names the target of a link in an exported cache."""
        return root_key(link.digest, link.output)

    def key_id(self, key: CacheKey) -> str:
        """Give the id of a key here: where links of all its inputs lead, else a new one."""
        pending = [key]
        while pending:
            current = pending[-1]
            if self.id in current.ids or not current.inputs:
                pending.pop()
                current.ids.setdefault(self.id, current.id)
                continue
            missing = [
                each.key
                for alternatives in current.inputs
                for each in alternatives
                if self.id not in each.key.ids
            ]
            if missing:
                pending += missing
                continue
            pending.pop()
            current.ids[self.id] = self._find_id(current)
        return key.ids[self.id]

    def _find_id(self, key: CacheKey) -> str:
        found: set[str] | None = None
        for position, alternatives in enumerate(key.inputs):
            targets: set[str] = set()
            # A known content decides alone: the same definition may have given another one before.
            contents = [each for each in alternatives if each.key.output == CONTENT_OUTPUT]
            for each in contents or alternatives:
                link = Link(position, key.output, key.digest, each.selector)
                if each.key.is_storable:
                    targets |= self.keys.targets(each.key.ids[self.id], link)
            found = targets if found is None else found & targets
            if not found:
                break
        return min(found) if found else secrets.token_hex(13)

    def query(
        self, inputs: Sequence[SelectedKey], position: int, digest: str, output: int
    ) -> list[CacheKey]:
        if not inputs:
            key = CacheKey(digest, output)
            key.ids[self.id] = key.id
            return [key] if key.is_storable and self.keys.exists(key.id) else []
        stored = [each for each in inputs if each.key.is_storable]
        by_input = []
        for each in stored:
            link = Link(position, output, digest, each.selector)
            key_id = self.key_id(each.key)
            by_input.append((key_id, link, self.keys.targets(key_id, link)))
        if len(by_input) == 1:
            everything = by_input[0][2]
        else:
            everything = set().union(*(targets for _, _, targets in by_input))
            for key_id, link, targets in by_input:
                for target in everything - targets:
                    self.keys.add_link(key_id, link, target)
        return [self._stored_key(target, digest, output) for target in sorted(everything)]

    def _stored_key(self, id: str, digest: str, output: int) -> CacheKey:
        key = CacheKey(digest, output, id=id)
        key.ids[self.id] = id
        return key

    def records(self, key: CacheKey) -> list[CacheRecord]:
        found = []
        for record in self.keys.records(self.key_id(key)):
            if self.results.exists(record.id):
                found.append(CacheRecord(record.id, record.created, key, self))
            else:
                self.keys.release(record.id)
        return found

    async def load(self, record: CacheRecord) -> list[Loaded]:
        try:
            if not hasattr(self.results, "load_chain"):
                result = await self.results.load(record.id)
                return [Loaded(result, record.key, record.created)]
            chained = cast("ChainedResultStore", self.results)
            key_id = self.key_id(record.key)
            results = dict(await chained.load_chain(key_id, record.id))
        except NotFoundError:
            self.keys.release(record.id)
            raise
        return await self._sort_out(results, record)

    async def _sort_out(
        self, results: dict[str, Result | None], record: CacheRecord
    ) -> list[Loaded]:
        """Give the results whose keys are ancestors of the record's; release the others."""
        first = self.key_id(record.key)
        loaded = [Loaded(results.pop(first), record.key, record.created)]
        seen = {first}
        pending = [record.key]
        while pending and results:
            for alternatives in pending.pop().inputs:
                for each in alternatives:
                    key_id = self.key_id(each.key)
                    if key_id in seen:
                        continue
                    seen.add(key_id)
                    pending.append(each.key)
                    records = self.keys.records(key_id)
                    if key_id in results and records:
                        result = results.pop(key_id)
                        loaded.append(Loaded(result, each.key, records[0].created))
        for rest in results.values():
            if rest is not None:
                await rest.release()
        return loaded

    def save(self, key: CacheKey, result: Result | None, created: float) -> CacheRecord | None:
        """Store a result by a key; None when key or result are not for storing."""
        if not key.is_storable:
            return None
        record_id = self.results.record_id(result)
        if record_id is None:
            return None
        self.keys.add_record(self.key_id(key), Record(record_id, created))
        self.link(key)
        return CacheRecord(record_id, created, key, self)

    def link(self, key: CacheKey) -> None:
        """Make sure that all inputs of `key`, and theirs, lead to it."""
        pending = [key]
        while pending:
            current = pending.pop()
            target = self.key_id(current)
            for position, alternatives in enumerate(current.inputs):
                for each in alternatives:
                    if not each.key.is_storable:
                        continue
                    link = Link(position, current.output, current.digest, each.selector)
                    source = self.key_id(each.key)
                    if target not in self.keys.targets(source, link):
                        self.keys.add_link(source, link, target)
                        pending.append(each.key)


class CombinedCache:
    """The main cache and the sources of one vertex, asked together."""

    def __init__(self, main: StoreCache, imported: Sequence[CacheSource] = ()) -> None:
        self.main = main
        self._imported = tuple(imported)
        self._by_id: dict[str, CacheSource] = {each.id: each for each in (main, *imported)}

    async def prepare(self) -> None:
        async with tasks_together() as group:
            for source in self._imported:
                group.create_task(source.prepare())

    def query(
        self, inputs: Sequence[SelectedKey], position: int, digest: str, output: int
    ) -> list[CacheKey]:
        """Give the keys of all sources; one that several know is one key."""
        if not self._imported:
            return self.main.query(inputs, position, digest, output)
        found: dict[str, CacheKey] = {}
        for source in self._by_id.values():
            for key in source.query(inputs, position, digest, output):
                known = found.setdefault(key.id, key)
                known.ids.update(key.ids)
        return list(found.values())

    def records(self, key: CacheKey) -> list[CacheRecord]:
        """Give the records of the sources in which the key was found."""
        if not self._imported:
            return self.main.records(key)
        found: list[CacheRecord] = []
        for source_id in list(key.ids):
            source = self._by_id.get(source_id)
            if source is None:
                continue
            is_imported = source is not self.main
            found += [
                CacheRecord(each.id, each.created, key, source, is_imported)
                for each in source.records(key)
            ]
        return found

    async def load(self, record: CacheRecord) -> Result | None:
        """Give a handle on the record's result; imported ones are saved in the main cache.

        Raises:
            NotFoundError: it is gone.
        """
        loaded = await record.source.load(record)
        for number, each in enumerate(loaded):
            if record.source is not self.main:
                self.main.save(each.key, each.result, each.created)
            if number and each.result is not None:
                await each.result.release()
        return loaded[0].result
