"""`SqliteKeyStore`: cache keys, links and records in the store's database.

Writes are kept back and go to the database together, in one transaction; reads look at what is kept
back first. Other processes see writes after `flush`. The event loop's thread reads and writes; any
thread may release.
"""

from __future__ import annotations

import threading
from typing import Final

from torana.core.database import Database
from torana.core.solver.stores import Link, Record

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS cache_links (
    source TEXT NOT NULL, position INTEGER NOT NULL, output INTEGER NOT NULL,
    digest TEXT NOT NULL, selector TEXT NOT NULL, target TEXT NOT NULL,
    PRIMARY KEY (source, digest, position, output, selector, target)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS cache_links_target ON cache_links (target);
CREATE TABLE IF NOT EXISTS cache_records (
    key TEXT NOT NULL, record TEXT NOT NULL, created REAL NOT NULL,
    PRIMARY KEY (key, record)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS cache_records_record ON cache_records (record);
"""
_EXISTS: Final = (
    "SELECT EXISTS (SELECT 1 FROM cache_records WHERE key = ?)"
    " OR EXISTS (SELECT 1 FROM cache_links WHERE source = ?)"
)
_TARGETS: Final = (
    "SELECT target, record, created FROM cache_links LEFT JOIN cache_records ON key = target"
    " WHERE source = ? AND digest = ? AND position = ? AND output = ? AND selector = ?"
)
_ADD_LINK: Final = (
    "INSERT OR IGNORE INTO cache_links (source, position, output, digest, selector, target)"
    " VALUES (?, ?, ?, ?, ?, ?)"
)


class SqliteKeyStore:
    """`KeyStore` of a store folder; an absent selector is stored as empty text."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()  # of the two below; taken after the database's, if both
        self._links: dict[str, dict[Link, set[str]]] = {}
        self._records: dict[str, dict[str, float]] = {}
        self._read: dict[str, dict[str, float]] = {}  # records read along with links, until `flush`
        database.execute_script(_TABLES)

    # Reading

    def exists(self, key_id: str) -> bool:
        if key_id in self._links or key_id in self._records:
            return True
        row = self._database.row(_EXISTS, (key_id, key_id))
        return bool(row is not None and row[0])

    def targets(self, key_id: str, link: Link) -> set[str]:
        position, output, digest, selector = link
        values = (key_id, digest, position, output, selector or "")
        pending = self._links.get(key_id)
        found = set(pending.get(link, ())) if pending else set()
        read = self._read
        for target, record, created in self._database.rows(_TARGETS, values):
            found.add(target)
            records = read.setdefault(target, {})
            if record is not None:
                records[record] = created
        return found

    def records(self, key_id: str) -> list[Record]:
        pending = dict(self._records.get(key_id, ()))
        stored = self._read.get(key_id)
        if stored is None:
            rows = self._database.rows(
                "SELECT record, created FROM cache_records WHERE key = ?", (key_id,)
            )
            stored = dict(rows)
        found = {**stored, **pending} if pending else stored
        if len(found) < 2:
            return [Record(*item) for item in found.items()]
        return sorted(
            (Record(*item) for item in found.items()),
            key=lambda record: (-record.created, record.id),
        )

    def back_links(self, key_id: str) -> list[tuple[str, Link]]:
        self.flush()
        rows = self._database.rows(
            "SELECT source, position, output, digest, selector FROM cache_links WHERE target = ?"
            " ORDER BY source, position, output, digest, selector",
            (key_id,),
        )
        return [(row[0], Link(row[1], row[2], row[3], row[4] or None)) for row in rows]

    def keys_of(self, record_id: str) -> list[str]:
        self.flush()
        rows = self._database.rows(
            "SELECT key FROM cache_records WHERE record = ? ORDER BY key", (record_id,)
        )
        return [key for (key,) in rows]

    def record_ids(self) -> list[str]:
        self.flush()
        rows = self._database.rows("SELECT DISTINCT record FROM cache_records ORDER BY record")
        return [record for (record,) in rows]

    # Writing

    def add_link(self, key_id: str, link: Link, target_id: str) -> None:
        with self._lock:
            self._links.setdefault(key_id, {}).setdefault(link, set()).add(target_id)

    def add_record(self, key_id: str, record: Record) -> None:
        with self._lock:
            self._records.setdefault(key_id, {})[record.id] = record.created

    def flush(self) -> None:
        self._read = {}
        if not self._links and not self._records:
            return
        links: list[tuple[str, Link, str]] = []
        records: list[tuple[str, str, float]] = []
        try:
            with self._database.transaction():
                self._take(links, records)
                execute = self._database.execute_many
                rows = [
                    (key, *link[:3], link.selector or "", target) for key, link, target in links
                ]
                execute(_ADD_LINK, rows)
                execute("INSERT OR REPLACE INTO cache_records VALUES (?, ?, ?)", records)
        except BaseException:
            for key, link, target in links:
                self.add_link(key, link, target)
            for key, record, created in records:
                self.add_record(key, Record(record, created))
            raise

    def _take(
        self, links: list[tuple[str, Link, str]], records: list[tuple[str, str, float]]
    ) -> None:
        """Move what is kept back into `links` and `records`."""
        with self._lock:
            for key, by_link in self._links.items():
                links += [
                    (key, link, target) for link, targets in by_link.items() for target in targets
                ]
            for key, by_record in self._records.items():
                records += [(key, record, created) for record, created in by_record.items()]
            self._links = {}
            self._records = {}

    def release(self, record_id: str) -> None:
        """Remove a record, and the keys and links that then lead to no record any more."""
        self.flush()
        with self._database.transaction():
            keys = self._database.rows(
                "DELETE FROM cache_records WHERE record = ? RETURNING key", (record_id,)
            )
            pending = [key for (key,) in keys]
            while pending:
                key = pending.pop()
                if not self.exists(key):
                    rows = self._database.rows(
                        "DELETE FROM cache_links WHERE target = ? RETURNING source", (key,)
                    )
                    pending += {source for (source,) in rows}
        self._read = {}
