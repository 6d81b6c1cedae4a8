"""Keys without results are told and dropped."""

from __future__ import annotations

from pathlib import Path

from tests.unit.core.cache.stores import Store

from torana.core import leftovers
from torana.core.cache.keys import SqliteKeyStore
from torana.core.cache.policy import GCPolicy
from torana.core.solver.op import Result
from torana.core.solver.stores import Record


class Results:
    """Results are refs; nothing is loaded here."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def load(self, record_id: str) -> Result | None:
        raise AssertionError("not called")

    def record_id(self, result: Result | None) -> str | None:
        raise AssertionError("not called")

    def exists(self, record_id: str) -> bool:
        return self._store.snapshots.exists(record_id)


async def test_keys_without_results(tmp_path: Path) -> None:
    store = Store(tmp_path)
    ref = await store.commit()
    keys = SqliteKeyStore(store.database)
    leftovers.watch(store.upkeep, store.refs, keys, Results(store))
    keys.add_record("there", Record(ref.id, 1.0))
    keys.add_record("gone", Record("missing", 1.0))
    assert [str(each) for each in store.upkeep.check()] == ["key without its result: missing"]
    store.upkeep.prune([GCPolicy(filters=("id==none",))])
    assert store.upkeep.check() == []
    assert keys.record_ids() == [ref.id]
    store.close()
