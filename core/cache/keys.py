"""`SqliteKeyStore`: cache keys, links and records in the store's database.

Writes are kept back and go to the database together, in one transaction; reads look at both. Other
processes see them after `flush`.
"""

from __future__ import annotations

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
    "SELECT target FROM cache_links WHERE source = ? AND digest = ? AND position = ?"
    " AND output = ? AND selector = ?"
)


class SqliteKeyStore:
    """`KeyStore` of a store folder; an absent selector is stored as empty text."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._links: dict[str, dict[Link, set[str]]] = {}
        self._records: dict[str, dict[str, float]] = {}
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
        found = {target for (target,) in self._database.rows(_TARGETS, values)}
        if key_id in self._links:
            found |= self._links[key_id].get(link, set())
        return found

    def records(self, key_id: str) -> list[Record]:
        rows = self._database.rows(
            "SELECT record, created FROM cache_records WHERE key = ?", (key_id,)
        )
        if key_id not in self._records and len(rows) < 2:
            return [Record(*row) for row in rows]
        found = dict(rows) | self._records.get(key_id, {})
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
        self._links.setdefault(key_id, {}).setdefault(link, set()).add(target_id)

    def add_record(self, key_id: str, record: Record) -> None:
        self._records.setdefault(key_id, {})[record.id] = record.created

    def flush(self) -> None:
        if not self._links and not self._records:
            return
        links = [
            (source, link.position, link.output, link.digest, link.selector or "", target)
            for source, by_link in self._links.items()
            for link, targets in by_link.items()
            for target in targets
        ]
        records = [
            (key, record, created)
            for key, by_record in self._records.items()
            for record, created in by_record.items()
        ]
        with self._database.transaction():
            execute = self._database.execute_many
            execute("INSERT OR IGNORE INTO cache_links VALUES (?, ?, ?, ?, ?, ?)", links)
            execute("INSERT OR REPLACE INTO cache_records VALUES (?, ?, ?)", records)
        self._links.clear()
        self._records.clear()

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
