"""What dead processes leave outside of the cache: keys without results, and containers."""

from __future__ import annotations

from pathlib import Path

from torana.core.cache.finding import Finding
from torana.core.cache.keys import SqliteKeyStore
from torana.core.cache.manager import CacheManager
from torana.core.cache.upkeep import Upkeep
from torana.core.solver.stores import ResultStore

_CONTAINERS = "containers of a dead process"


def watch(upkeep: Upkeep, refs: CacheManager, keys: SqliteKeyStore, results: ResultStore) -> None:
    """Have the keeper of a store look for leftovers, too, and remove them."""
    executor = refs.root / "executor"

    def drop_keys() -> list[Finding]:
        found = keys_without_results(refs, keys, results)
        for finding in found:
            keys.release(finding.id)
        return found

    upkeep.on_prune.append(drop_keys)
    upkeep.checks += [
        lambda: keys_without_results(refs, keys, results),
        lambda: dead_containers(executor),
    ]
    upkeep.repairs += [drop_keys, lambda: end_containers(executor)]


def keys_without_results(
    refs: CacheManager, keys: SqliteKeyStore, results: ResultStore
) -> list[Finding]:
    """Give records of keys whose results are gone: of no use, but harmless."""
    gone = [id for id in keys.record_ids() if not (results.exists(id) or refs.is_held(id))]
    # Looked at again: a result and its keys may just have been removed.
    return [Finding("key without its result", id) for id in gone if keys.keys_of(id)]


def dead_containers(executor: Path) -> list[Finding]:
    """Give the folders of containers whose process is gone."""
    from torana.core.ops.exec.folder import abandoned

    return [Finding(_CONTAINERS, name) for name in abandoned(executor)]


def end_containers(executor: Path) -> list[Finding]:
    """Kill what still runs of dead processes, remove their folders and give these."""
    from torana.core.ops.exec.folder import reconcile

    return [Finding(_CONTAINERS, name) for name in reconcile(executor)]
