"""`History`: records of builds that survive restarts, and news of them as they happen.

Lies in `<root>/history`: `history.db` has one row for each finished build, `blobs/` what the rows
name. Blobs come before the row that names them, and go after it. A build that was running when the
daemon was killed leaves no row, and its blobs are removed at the next start.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import IntEnum
from pathlib import Path
from typing import Final, NamedTuple

from torana.core.content.store import ContentStore
from torana.core.database import Database, pack, unpack
from torana.core.errors import NotFoundError
from torana.core.oci.digest import Digest
from torana.gateway.daemon.record import BuildRecord, from_stored, to_stored
from torana.gateway.daemon.recordfilter import Matcher

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS builds (
    ref TEXT PRIMARY KEY, completed REAL NOT NULL, pinned INTEGER NOT NULL, value BLOB NOT NULL
) WITHOUT ROWID;
"""


class EventType(IntEnum):
    """`moby.buildkit.v1.BuildHistoryEventType`."""

    STARTED = 0
    COMPLETE = 1
    DELETED = 2


class HistoryEvent(NamedTuple):
    """A record that began, is complete (or was changed), or is gone."""

    type: EventType
    record: BuildRecord


class History:
    """Lives on one event loop. Calls that touch the disk are short."""

    def __init__(self, root: Path, *, max_age_s: float = 172800.0, max_entries: int = 50) -> None:
        folder = root / "history"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.content = ContentStore(folder)
        self._database = Database(folder / "history.db")
        self._database.execute_script(_TABLES)
        self._max_age_s = max_age_s
        self._max_entries = max_entries
        self._active: dict[str, BuildRecord] = {}
        self._listeners: set[asyncio.Queue[HistoryEvent | None]] = set()
        self.dropped = self._reconcile()

    # Builds

    def start(self, record: BuildRecord) -> None:
        """Tell of a build that begins."""
        self._active[record.ref] = record
        self._tell(HistoryEvent(EventType.STARTED, record))

    def complete(self, record: BuildRecord) -> None:
        """Keep the record of a build that is over; its blobs are in `content` already."""
        self._store(record)
        self._active.pop(record.ref, None)
        self._tell(HistoryEvent(EventType.COMPLETE, record))

    def forget(self, ref: str) -> None:
        """End a build that leaves no record."""
        self._active.pop(ref, None)

    # Records

    def get(self, ref: str) -> BuildRecord | None:
        """Give a finished build's record."""
        row = self._database.row("SELECT value FROM builds WHERE ref = ?", (ref,))
        raw = None if row is None else unpack(row[0])
        return None if raw is None else from_stored(raw)

    def records(self, matches: Matcher | None = None, *, limit: int = 0) -> list[BuildRecord]:
        """Give finished builds, by ref; with `limit` the newest ones, newest first."""
        order = "completed DESC" if limit else "ref"
        found = []
        for (value,) in self._database.rows(f"SELECT value FROM builds ORDER BY {order}"):
            raw = unpack(value)
            if raw is None:
                continue
            record = from_stored(raw)
            if matches is None or matches(record):
                found.append(record)
                if len(found) == limit:
                    break
        return found

    def active(self) -> list[BuildRecord]:
        """Give the builds that run."""
        return list(self._active.values())

    def pin(self, ref: str, is_pinned: bool) -> None:
        """Keep a record from clean-up, or no longer.

        Raises:
            NotFoundError: there is no such record.
        """
        record = self._existing(ref)
        if record.is_pinned != is_pinned:
            self.change(replace(record, is_pinned=is_pinned))

    def change(self, record: BuildRecord) -> None:
        """Replace a finished build's record and tell of it."""
        changed = replace(record, generation=record.generation + 1)
        self._store(changed)
        self._tell(HistoryEvent(EventType.COMPLETE, changed))

    def delete(self, ref: str) -> None:
        """Remove a record and the blobs that only it has.

        Raises:
            NotFoundError: there is no such record.
        """
        record = self._existing(ref)
        self._database.execute("DELETE FROM builds WHERE ref = ?", (ref,))
        needed = {blob.digest for other in self.records() for blob in other.blobs()}
        for blob in record.blobs():
            if blob.digest not in needed:
                self.content.delete(blob.digest)
        self._tell(HistoryEvent(EventType.DELETED, BuildRecord(ref=ref, created=0.0)))

    def clean_up(self, *, now: float | None = None) -> int:
        """Remove what is both too old and not among the newest; gives how many."""
        oldest = (time.time() if now is None else now) - self._max_age_s
        rows = self._database.rows(
            "SELECT ref, completed FROM builds WHERE NOT pinned ORDER BY completed DESC"
        )
        expired = [ref for ref, completed in rows[self._max_entries :] if completed < oldest]
        for ref in expired:
            self.delete(ref)
        return len(expired)

    # News

    @contextmanager
    def listen(self) -> Iterator[asyncio.Queue[HistoryEvent | None]]:
        """Give a queue that takes all events while entered; None is the last."""
        queue: asyncio.Queue[HistoryEvent | None] = asyncio.Queue()
        self._listeners.add(queue)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)

    def end_listening(self) -> None:
        """Tell all listeners that nothing more comes."""
        for queue in self._listeners:
            queue.put_nowait(None)

    def close(self) -> None:
        self._database.close()

    def _existing(self, ref: str) -> BuildRecord:
        record = self.get(ref)
        if record is None:
            raise NotFoundError(f"failed to find build record {ref}: not found")
        return record

    def _store(self, record: BuildRecord) -> None:
        assert record.completed is not None
        self._database.execute(
            "INSERT OR REPLACE INTO builds VALUES (?, ?, ?, ?)",
            (record.ref, record.completed, int(record.is_pinned), pack(to_stored(record))),
        )

    def _tell(self, event: HistoryEvent) -> None:
        for queue in self._listeners:
            queue.put_nowait(event)

    def _reconcile(self) -> list[str]:
        """Remove blobs that no row names; gives what was removed."""
        dropped = self.content.reconcile()
        needed = {str(blob.digest) for record in self.records() for blob in record.blobs()}
        for digest in list(self.content.digests()):
            if str(digest) not in needed:
                self.content.delete(Digest(digest))
                dropped.append(str(digest))
        return dropped
