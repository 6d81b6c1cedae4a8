"""What dead processes leave outside of the cache: keys without results, and containers."""

from __future__ import annotations

from pathlib import Path

from torana.core.cache.keys import SqliteKeyStore
from torana.core.cache.reconcile import Finding
from torana.core.cache.upkeep import Upkeep
from torana.core.ops.exec import folder
from torana.core.solver.stores import ResultStore


def watch(upkeep: Upkeep, keys: SqliteKeyStore, results: ResultStore, executor: Path) -> None:
    """Have the keeper of a store look for leftovers, too, and remove them."""

    def drop_keys() -> list[Finding]:
        found = keys_without_results(keys, results)
        for finding in found:
            keys.release(finding.id)
        return found

    upkeep.on_prune.append(drop_keys)
    upkeep.checks += [
        lambda: keys_without_results(keys, results),
        lambda: _containers(folder.abandoned(executor)),
    ]
    upkeep.repairs += [drop_keys, lambda: _containers(folder.reconcile(executor))]


def keys_without_results(keys: SqliteKeyStore, results: ResultStore) -> list[Finding]:
    """Give records of keys whose results are gone: of no use, but harmless."""
    gone = [id for id in keys.record_ids() if not results.exists(id)]
    # Looked at again: a result and its keys may just have been removed.
    return [Finding("key without its result", id) for id in gone if keys.keys_of(id)]


def _containers(names: list[str]) -> list[Finding]:
    return [Finding("containers of a dead process", name) for name in names]
