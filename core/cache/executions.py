"""`Executions`: what is being run, in whatever process, and what has just been.

Who runs something holds the lock of its identity meanwhile, and notes what came out before letting
go. Who waited for the lock, or had begun before that, takes the outcome. Notes are of use to builds
that run at the same time only; the cache proper is the solver's.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

from torana.core.bytelocks import ByteLocks, lock_number
from torana.core.database import Database, pack, unpack
from torana.core.faults import fault_point

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS executions (
    identity TEXT PRIMARY KEY, finished REAL NOT NULL, value BLOB NOT NULL
) WITHOUT ROWID;
"""


class Execution:
    """One piece of work, locked."""

    def __init__(self, database: Database, identity: str) -> None:
        self._database = database
        self._identity = identity

    def outcome(self, since: float) -> list[str] | None:
        """Give the record ids of what another build got after `since` (seconds since the epoch)."""
        row = self._database.row(
            "SELECT value FROM executions WHERE identity = ? AND finished >= ?",
            (self._identity, since),
        )
        found: list[str] | None = None if row is None else unpack(row[0])
        return found

    def finish(self, record_ids: Sequence[str]) -> None:
        """Note what came out."""
        fault_point("execution.finish")
        self._database.execute(
            "INSERT OR REPLACE INTO executions VALUES (?, ?, ?)",
            (self._identity, time.time(), pack(list(record_ids))),
        )


class Executions:
    """The executions of one store."""

    def __init__(self, root: Path, database: Database) -> None:
        self._database = database
        self._locks = ByteLocks(root / "locks" / "executions")
        database.execute_script(_TABLES)

    @asynccontextmanager
    async def alone(
        self, identity: str, waiting: AbstractContextManager[None]
    ) -> AsyncIterator[Execution]:
        """Be the only one at `identity` while entered; `waiting` is entered while another is."""
        number = lock_number(identity)
        lock = self._locks.try_lock(number)
        if lock is None:
            with waiting:
                lock = await self._locks.lock(number)
        try:
            yield Execution(self._database, identity)
        finally:
            lock.close()

    def forget_old(self) -> None:
        """Delete notes that no running build can want."""
        self._database.execute(
            "DELETE FROM executions"
            " WHERE finished < (SELECT COALESCE(MIN(created), ?) FROM leases)",
            (time.time(),),
        )
