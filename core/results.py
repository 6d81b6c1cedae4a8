"""`RefResults`: results of the solver are refs of the store."""

from __future__ import annotations

from typing import Final

from torana.core.cache.lease import HoldKind
from torana.core.cache.manager import CacheManager
from torana.core.cache.pending import PendingRef
from torana.core.cache.snapshotref import SnapshotRef
from torana.core.solver.op import Result

SCRATCH_RECORD: Final = "scratch"


class RefResults:
    """The solver's result store: records are ids of refs; scratch has one of its own."""

    def __init__(self, refs: CacheManager) -> None:
        self._refs = refs
        self._pending: set[str] = set()  # ids that were given for what is made later, or never

    async def load(self, record_id: str) -> Result | None:
        if record_id == SCRATCH_RECORD:
            return None
        ref = self._refs.find(record_id)
        self._refs.records.touch(record_id)
        return ref

    def record_id(self, result: Result | None) -> str | None:
        if result is None:
            return SCRATCH_RECORD
        if isinstance(result, PendingRef):
            self._refs.lease.hold_for_builds(HoldKind.REF, result.id)
            self._pending.add(result.id)
            return result.id
        return result.id if isinstance(result, SnapshotRef) else None

    def exists(self, record_id: str) -> bool:
        if record_id == SCRATCH_RECORD:
            return True
        return self._refs.snapshots.exists(record_id)

    def never_made(self) -> list[str]:
        """Give ids of results that nobody needed, and that are gone; each once."""
        over = {id for id in self._pending if self._refs.pending_of(id) is None}
        self._pending -= over
        return [id for id in over if not self.exists(id)]
