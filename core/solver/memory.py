"""Key and result stores in memory: for imported caches, tests, and builds without a folder."""

from __future__ import annotations

from torana.core.errors import NotFoundError
from torana.core.solver.op import Result
from torana.core.solver.stores import Link, Record


class MemoryKeyStore:
    """`KeyStore` that forgets everything with the process."""

    def __init__(self) -> None:
        self._links: dict[str, dict[Link, set[str]]] = {}
        self._back_links: dict[str, set[tuple[str, Link]]] = {}
        self._records: dict[str, dict[str, float]] = {}
        self._keys: dict[str, set[str]] = {}  # by record

    def exists(self, key_id: str) -> bool:
        return key_id in self._links or key_id in self._records

    def targets(self, key_id: str, link: Link) -> set[str]:
        return set(self._links.get(key_id, {}).get(link, ()))

    def add_link(self, key_id: str, link: Link, target_id: str) -> None:
        self._links.setdefault(key_id, {}).setdefault(link, set()).add(target_id)
        self._back_links.setdefault(target_id, set()).add((key_id, link))

    def records(self, key_id: str) -> list[Record]:
        found = [Record(*item) for item in self._records.get(key_id, {}).items()]
        return sorted(found, key=lambda record: (-record.created, record.id))

    def add_record(self, key_id: str, record: Record) -> None:
        self._records.setdefault(key_id, {})[record.id] = record.created
        self._keys.setdefault(record.id, set()).add(key_id)

    def release(self, record_id: str) -> None:
        for key_id in self._keys.pop(record_id, set()):
            records = self._records[key_id]
            del records[record_id]
            if not records:
                del self._records[key_id]
                self._forget(key_id)

    def _forget(self, key_id: str) -> None:
        """Remove a key without records if it leads nowhere, then those that led only to it."""
        pending = [key_id]
        while pending:
            current = pending.pop()
            if self.exists(current):
                continue
            for source, link in self._back_links.pop(current, set()):
                links = self._links[source]
                links[link].discard(current)
                if not links[link]:
                    del links[link]
                if not links:
                    del self._links[source]
                    pending.append(source)

    def back_links(self, key_id: str) -> list[tuple[str, Link]]:
        found = self._back_links.get(key_id, set())
        return sorted(found, key=lambda item: (item[0], *item[1][:3], item[1].selector or ""))

    def keys_of(self, record_id: str) -> list[str]:
        return sorted(self._keys.get(record_id, ()))

    def record_ids(self) -> list[str]:
        return sorted(self._keys)

    def flush(self) -> None:
        """Nothing is kept back."""


class MemoryResultStore:
    """`ResultStore` that keeps a clone of every result by its id."""

    _SCRATCH = "scratch"

    def __init__(self) -> None:
        self._results: dict[str, Result] = {}

    async def load(self, record_id: str) -> Result | None:
        if record_id == self._SCRATCH:
            return None
        result = self._results.get(record_id)
        if result is None:
            raise NotFoundError(f"no such cached result: `{record_id}`")
        return result.clone()

    def record_id(self, result: Result | None) -> str | None:
        if result is None:
            return self._SCRATCH
        if result.id not in self._results:
            self._results[result.id] = result.clone()
        return result.id

    def exists(self, record_id: str) -> bool:
        return record_id == self._SCRATCH or record_id in self._results

    async def remove(self, record_id: str) -> None:
        """Forget a result, as a garbage collector would."""
        result = self._results.pop(record_id, None)
        if result is not None:
            await result.release()

    async def clear(self) -> None:
        """Forget all results."""
        for record_id in list(self._results):
            await self.remove(record_id)
