"""`Cache`: queries, records, loads and saves on a pair of stores; `CombinedCache`: on several.

Queries have a side effect that makes later ones cheaper and wider: whatever one of the given keys
leads to is linked from all of them, so that a match by content also becomes one by definition.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torana.core.oci.digest import Digest
from torana.core.solver.keys import CachedResult, CacheKey, SelectedKey, root_key
from torana.core.solver.store import KeyStore, Link, ResultStore, StoredResult


def new_key_id() -> str:
    """Make a fresh id of 25 characters."""
    return base64.b32encode(secrets.token_bytes(16)).decode().lower()[:25]


@dataclass(frozen=True, slots=True)
class Record:
    """A stored result that a key leads to."""

    key: CacheKey
    stored: StoredResult
    cache: Cache
    priority: int = 0  # lower is tried first among equally old ones

    @property
    def id(self) -> tuple[str, str]:
        return self.cache.id, self.stored.id


def best(records: Sequence[Record]) -> Record:
    """Give the newest record; the lower priority among equally new ones."""
    return min(records, key=lambda record: (-record.stored.created, record.priority))


class Cache:
    """Works on one pair of stores."""

    def __init__(
        self, keys: KeyStore, results: ResultStore, *, id: str = "main", priority: int = 0
    ) -> None:
        self.id = id
        self.priority = priority
        self._keys = keys
        self._results = results

    def query(
        self, keys: Sequence[SelectedKey], position: int, digest: Digest, output: int
    ) -> dict[str, CacheKey]:
        """Find the keys that any of `keys` leads to as input `position`; by id."""
        by_selector: dict[Digest | None, list[str]] = {}
        for selected in keys:
            by_selector.setdefault(selected.selector, []).append(self.key_id(selected.key))
        known: list[tuple[Link, dict[str, set[str]], list[str]]] = []
        found: set[str] = set()
        for selector, ids in by_selector.items():
            link = Link(position, output, digest, selector)
            targets = self._keys.targets(ids, link)
            known.append((link, targets, ids))
            found.update(*targets.values())
        missing = [
            (id, link, target)
            for link, targets, ids in known
            for id in ids
            for target in sorted(found - targets.get(id, set()))
        ]
        if missing:
            self._keys.add_links(missing)
        return {id: CacheKey(digest, output, ids={self.id: id}) for id in found}

    def query_root(self, digest: Digest, output: int) -> dict[str, CacheKey]:
        """Find the key of an op without inputs."""
        id = root_key(digest, output)
        if not self._keys.exists(id):
            return {}
        return {id: CacheKey(digest, output, ids={self.id: id})}

    def records(self, key: CacheKey) -> list[Record]:
        """Give the results of a key that still exist; what is gone is dropped from the store."""
        found = []
        for stored in self._keys.results(self.key_id(key)):
            if self._results.exists(stored.id):
                found.append(Record(key, stored, self, self.priority))
            else:
                self._keys.release(stored.id)
        return found

    async def load(self, record: Record) -> CachedResult:
        """Load a result; the handle is the caller's."""
        return CachedResult(await self._results.load(record.stored), (record.key,))

    async def save(self, key: CacheKey, result: CachedResult, created: float) -> Record:
        """Keep a result under a key, linked from all that its inputs are known by."""
        stored = await self._results.save(result.result, created)
        id = self.key_id(key)
        self._keys.add_result(id, stored)
        self._link(key)
        return Record(key, stored, self, self.priority)

    def flush(self) -> None:
        self._keys.flush()

    def key_id(self, key: CacheKey) -> str:
        """Give the id that a key has here; made up when nothing leads to it yet."""
        id = key.ids.get(self.id)
        if id is None:
            if not key.inputs:
                id = root_key(key.digest, key.output)
            else:
                _bottom_up(key, self._has_id, self._find_id)
                return key.ids[self.id]
            key.ids[self.id] = id
        return id

    def back_links(self, id: str) -> list[tuple[str, Link]]:
        return self._keys.back_links(id)

    def stored(self, id: str) -> list[StoredResult]:
        return self._keys.results(id)

    def _has_id(self, key: CacheKey) -> bool:
        return self.id in key.ids

    def _find_id(self, key: CacheKey) -> None:
        if not key.inputs:
            key.ids[self.id] = root_key(key.digest, key.output)
            return
        common: set[str] | None = None
        for position, alternatives in enumerate(key.inputs):
            reached: set[str] = set()
            for selected in alternatives:
                link = Link(position, key.output, key.digest, selected.selector)
                reached.update(*self._keys.targets([selected.key.ids[self.id]], link).values())
            common = reached if common is None else common & reached
            if not common:
                break
        key.ids[self.id] = min(common) if common else new_key_id()

    def _is_linked(self, key: CacheKey) -> bool:
        return not key.inputs or key.linked.get(self.id) == self._keys.generation

    def _link(self, key: CacheKey) -> None:
        links: list[tuple[str, Link, str]] = []

        def visit(key: CacheKey) -> None:
            target = self.key_id(key)
            for position, alternatives in enumerate(key.inputs):
                for selected in alternatives:
                    link = Link(position, key.output, key.digest, selected.selector)
                    links.append((self.key_id(selected.key), link, target))
            key.linked[self.id] = self._keys.generation

        _bottom_up(key, self._is_linked, visit)
        self._keys.add_links(links)


def _bottom_up(
    key: CacheKey, is_done: Callable[[CacheKey], bool], visit: Callable[[CacheKey], None]
) -> None:
    """Visit a key after the keys of its inputs; without recursion, since graphs can be deep."""
    stack = [(key, False)]
    while stack:
        current, is_ready = stack.pop()
        if is_done(current):
            continue
        if is_ready:
            visit(current)
            continue
        stack.append((current, True))
        for alternatives in current.inputs:
            stack.extend((s.key, False) for s in alternatives if not is_done(s.key))


class CombinedCache:
    """The main cache and further ones, asked as one; what is loaded from those goes to the main."""

    def __init__(self, main: Cache, others: Sequence[Cache] = ()) -> None:
        self.main = main
        self._caches = (main, *others)

    def query(
        self, keys: Sequence[SelectedKey], position: int, digest: Digest, output: int
    ) -> dict[str, CacheKey]:
        return self._merge([c.query(keys, position, digest, output) for c in self._caches])

    def query_root(self, digest: Digest, output: int) -> dict[str, CacheKey]:
        return self._merge([cache.query_root(digest, output) for cache in self._caches])

    def records(self, key: CacheKey) -> list[Record]:
        return [record for cache in self._caches for record in cache.records(key)]

    async def load(self, record: Record) -> CachedResult:
        """Load a record; from another cache than the main one it is also saved there."""
        loaded = await record.cache.load(record)
        if record.cache is not self.main:
            try:
                await self.main.save(record.key, loaded, record.stored.created)
            except BaseException:
                await loaded.release()
                raise
        return loaded

    async def save(self, key: CacheKey, result: CachedResult, created: float) -> Record:
        return await self.main.save(key, result, created)

    @staticmethod
    def _merge(answers: Sequence[dict[str, CacheKey]]) -> dict[str, CacheKey]:
        merged: dict[str, CacheKey] = {}
        for answer in answers:
            for id, key in answer.items():
                if id in merged:
                    merged[id].ids.update(key.ids)
                else:
                    merged[id] = key
        return merged


def reconcile(keys: KeyStore, results: ResultStore) -> int:
    """Drop the results that no longer exist, and give their number."""
    gone = [id for id in keys.result_ids() if not results.exists(id)]
    for id in gone:
        keys.release(id)
    return len(gone)
