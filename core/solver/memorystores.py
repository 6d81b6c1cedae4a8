"""Key and result stores in memory: for tests and for builds without a cache folder."""

from __future__ import annotations

from collections.abc import Iterable

from torana.core.errors import NotFoundError
from torana.core.solver.op import Result
from torana.core.solver.stores import Record, root_key

_Link = tuple[str, int, int, str, str | None]


class MemoryKeyStore:
    """`KeyStore` that forgets everything with the process."""

    def __init__(self) -> None:
        self._links: dict[_Link, set[str]] = {}
        self._records: dict[str, dict[str, float]] = {}

    def root_key(self, digest: str, output: int) -> str:
        return root_key(digest, output)

    def query(
        self, inputs: Iterable[str], position: int, digest: str, output: int, selector: str | None
    ) -> set[str]:
        found: set[str] = set()
        for key_id in inputs:
            found |= self._links.get((key_id, position, output, digest, selector), set())
        return found

    def records(self, key_id: str) -> list[Record]:
        found = [Record(*item) for item in self._records.get(key_id, {}).items()]
        return sorted(found, key=lambda record: (-record.created, record.id))

    def save(self, key_id: str, record_id: str, created: float) -> None:
        self._records.setdefault(key_id, {})[record_id] = created

    def link(
        self,
        from_id: str,
        position: int,
        output: int,
        digest: str,
        selector: str | None,
        target_id: str,
    ) -> None:
        self._links.setdefault((from_id, position, output, digest, selector), set()).add(target_id)

    def drop(self, record_id: str) -> None:
        for records in self._records.values():
            records.pop(record_id, None)


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
