"""Stores in memory: for tests, and for builds that keep no cache."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torana.core.errors import NotFoundError
from torana.core.solver.op import Result
from torana.core.solver.store import Link, StoredResult


class MemoryKeys:
    """A `KeyStore` in dictionaries."""

    def __init__(self) -> None:
        self.generation = 0
        self._links: dict[str, dict[Link, set[str]]] = {}
        self._back: dict[str, set[tuple[str, Link]]] = {}
        self._results: dict[str, dict[str, float]] = {}
        self._holders: dict[str, set[str]] = {}  # keys by result

    def exists(self, key: str) -> bool:
        return key in self._links or key in self._results

    def targets(self, keys: Sequence[str], link: Link) -> dict[str, set[str]]:
        found = {}
        for key in keys:
            if targets := self._links.get(key, {}).get(link):
                found[key] = set(targets)
        return found

    def add_links(self, links: Iterable[tuple[str, Link, str]]) -> None:
        for key, link, target in links:
            self._links.setdefault(key, {}).setdefault(link, set()).add(target)
            self._back.setdefault(target, set()).add((key, link))

    def back_links(self, key: str) -> list[tuple[str, Link]]:
        return sorted(
            self._back.get(key, ()),
            key=lambda e: (e[1].input, e[1].output, e[1].digest, e[1].selector or "", e[0]),
        )

    def results(self, key: str) -> list[StoredResult]:
        return [StoredResult(*item) for item in sorted(self._results.get(key, {}).items())]

    def add_result(self, key: str, result: StoredResult) -> None:
        self._results.setdefault(key, {})[result.id] = result.created
        self._holders.setdefault(result.id, set()).add(key)

    def result_ids(self) -> list[str]:
        return sorted(self._holders)

    def release(self, result_id: str) -> None:
        self.generation += 1
        for key in self._holders.pop(result_id, ()):
            del self._results[key][result_id]
            if not self._results[key]:
                del self._results[key]
            self._prune(key)

    def flush(self) -> None:
        pass

    def _prune(self, key: str) -> None:
        pending = [key]
        while pending:
            current = pending.pop()
            if self.exists(current):
                continue
            for source, link in self._back.pop(current, ()):
                targets = self._links[source][link]
                targets.discard(current)
                if not targets:
                    del self._links[source][link]
                if not self._links[source]:
                    del self._links[source]
                    pending.append(source)


class MemoryResults:
    """A `ResultStore` that keeps a handle on each result until it is dropped."""

    EMPTY = "empty"  # id of None

    def __init__(self) -> None:
        self._results: dict[str, Result] = {}

    def exists(self, result_id: str) -> bool:
        return result_id == self.EMPTY or result_id in self._results

    async def load(self, result: StoredResult) -> Result | None:
        if result.id == self.EMPTY:
            return None
        if result.id not in self._results:
            raise NotFoundError(f"no such result: `{result.id}`")
        return self._results[result.id].clone()

    async def save(self, result: Result | None, created: float) -> StoredResult:
        if result is None:
            return StoredResult(self.EMPTY, created)
        if result.id not in self._results:
            self._results[result.id] = result.clone()
        return StoredResult(result.id, created)

    async def drop(self, result_id: str) -> None:
        """Forget one result; a missing one is no error."""
        result = self._results.pop(result_id, None)
        if result is not None:
            await result.release()

    async def clear(self) -> None:
        """Forget everything."""
        for result_id in list(self._results):
            await self.drop(result_id)
