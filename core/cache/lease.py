"""`Lease`: what this process holds, so that no other process removes it.

A hold is a row, written before the thing is looked for. Who removes something looks for holds and
deletes the thing's row in one transaction. So either the holder comes first and the thing is
spared, or it finds nothing. A lease whose process has died is known by its lock, which the kernel
has ended; `torana.core.cache.reconcile` then clears up after it.

A hold that nobody counts on any more becomes idle. It is given up when all builds that were running
at that time have ended: rows are written in few transactions, and whoever is a little late to take
a hold of its own still finds the thing.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Final

from torana.core.bytelocks import ByteLock, ByteLocks
from torana.core.database import Database
from torana.core.faults import fault_point
from torana.core.records import dataclass

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS leases (
    id INTEGER PRIMARY KEY, process INTEGER NOT NULL, created REAL NOT NULL, boot TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS lease_holds (
    kind TEXT NOT NULL, id TEXT NOT NULL, lease INTEGER NOT NULL,
    PRIMARY KEY (kind, id, lease)
) WITHOUT ROWID;
"""


class HoldKind(Enum):
    """What a hold is on."""

    REF = "ref"
    BLOB = "blob"


@dataclass(frozen=True, slots=True)
class StaleLease:
    """A lease whose process is gone."""

    id: int
    created: float  # seconds since the epoch
    is_of_earlier_boot: bool


def boot_id() -> str:
    """Give what names the running boot of the system."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


class Lease:
    """The holds of one `Worker`. Any thread may call; calls block for a short write at most."""

    def __init__(self, root: Path, database: Database) -> None:
        self._database = database
        database.execute_script(_TABLES)
        self._locks = ByteLocks(root / "locks" / "leases")
        self._mutex = threading.RLock()
        self._lock: ByteLock | None = None
        self._id = 0
        self._counts: dict[tuple[HoldKind, str], int] = {}
        self._idle: dict[tuple[HoldKind, str], int] = {}  # with the clock's value when it began
        self._clock = 0
        self._builds: set[int] = set()
        self._leaves_work = False

    def begin(self) -> None:
        """Make the lease known, so that others clear up after this process if it is killed."""
        with self._mutex:
            if self._lock is None:
                self._begin()

    def hold(self, kind: HoldKind, id: str) -> None:
        """Hold `id`, which need not exist yet; each call wants a `release`."""
        key = kind, id
        with self._mutex:
            if key in self._counts:
                self._counts[key] += 1
                return
            if key in self._idle:
                del self._idle[key]
            else:
                self._write(kind, id)
            self._counts[key] = 1

    def hold_for_builds(self, kind: HoldKind, id: str) -> None:
        """Hold `id` until the builds that run now have ended; no `release` is wanted."""
        with self._mutex:
            self.hold(kind, id)
            self.release(kind, id)

    def release(self, kind: HoldKind, id: str) -> None:
        """End one `hold`."""
        key = kind, id
        with self._mutex:
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]
                self._clock += 1
                self._idle[key] = self._clock

    @contextmanager
    def build(self) -> Iterator[None]:
        """Be a build while entered: what becomes idle meanwhile is held to its end."""
        self.begin()
        with self._mutex:
            self._clock += 1
            token = self._clock
            self._builds.add(token)
        try:
            yield
        finally:
            with self._mutex:
                self._builds.discard(token)
            self.settle()

    def settle(self) -> None:
        """Give up what is idle and older than all running builds."""
        with self._mutex:
            oldest = min(self._builds, default=self._clock + 1)
            over = [key for key, since in self._idle.items() if since < oldest]
            if not over:
                return
            with self._database.transaction():
                for kind, id in over:
                    self._database.execute(
                        "DELETE FROM lease_holds WHERE kind = ? AND id = ? AND lease = ?",
                        (kind.value, id, self._id),
                    )
            for key in over:
                del self._idle[key]

    def held(self) -> set[tuple[HoldKind, str]]:
        """Give what handles of this process count on."""
        with self._mutex:
            return set(self._counts)

    def leave_work(self) -> None:
        """Let the next start clear up after this process as if it had been killed."""
        with self._mutex:
            self._leaves_work = True

    def close(self) -> None:
        """Give everything up."""
        with self._mutex:
            if self._lock is None:
                return
            with self._database.transaction():
                self._database.execute("DELETE FROM lease_holds WHERE lease = ?", (self._id,))
                if not self._leaves_work:
                    self._database.execute("DELETE FROM leases WHERE id = ?", (self._id,))
            self._lock.close()
            self._lock = None
            self._counts.clear()
            self._idle.clear()

    def stale(self) -> list[StaleLease]:
        """Give the leases whose process has died."""
        rows = self._database.rows(
            "SELECT id, created, boot FROM leases WHERE id != ?", (self._id,)
        )
        found = [StaleLease(id, created, boot != boot_id()) for id, created, boot in rows]
        return [lease for lease in found if not self._locks.is_locked(lease.id)]

    def drop_holds(self, leases: Sequence[StaleLease]) -> None:
        """End what stale leases protect. They themselves stay, to tell that there is work left."""
        with self._database.transaction():
            for lease in leases:
                self._database.execute("DELETE FROM lease_holds WHERE lease = ?", (lease.id,))

    def drop(self, leases: Sequence[StaleLease]) -> None:
        """Forget stale leases, after everything they protected has been looked at."""
        with self._database.transaction():
            for lease in leases:
                self._database.execute("DELETE FROM leases WHERE id = ?", (lease.id,))

    def _write(self, kind: HoldKind, id: str) -> None:
        self.begin()
        fault_point("lease.hold")
        self._database.execute(
            "INSERT OR IGNORE INTO lease_holds VALUES (?, ?, ?)", (kind.value, id, self._id)
        )

    def _begin(self) -> None:
        lock = None
        while lock is None:
            number = secrets.randbits(62)
            lock = self._locks.try_lock(number)  # first: a row without a lock counts as stale
        try:
            self._database.execute(
                "INSERT INTO leases VALUES (?, ?, ?, ?)",
                (number, os.getpid(), time.time(), boot_id()),
            )
        except BaseException:
            lock.close()
            raise
        self._id, self._lock = number, lock


def is_held(database: Database, kind: HoldKind, id: str) -> bool:
    """Say whether any lease holds `id`; decide on it in the transaction that asks."""
    query = "SELECT 1 FROM lease_holds WHERE kind = ? AND id = ? LIMIT 1"
    return database.row(query, (kind.value, id)) is not None


def all_held(database: Database, kind: HoldKind) -> set[str]:
    """Give everything of a kind that is held."""
    rows = database.rows("SELECT DISTINCT id FROM lease_holds WHERE kind = ?", (kind.value,))
    return {id for (id,) in rows}
