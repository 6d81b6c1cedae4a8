"""`SqliteKeyStore`: cache keys, links and records in the store's database."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from torana.core.database import Database
from torana.core.solver.stores import Record, root_key

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


class SqliteKeyStore:
    """`KeyStore` of a store folder; an absent selector is stored as empty text."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.execute_script(_TABLES)

    def root_key(self, digest: str, output: int) -> str:
        return root_key(digest, output)

    def query(
        self, inputs: Iterable[str], position: int, digest: str, output: int, selector: str | None
    ) -> set[str]:
        found: set[str] = set()
        for key_id in inputs:
            rows = self._database.rows(
                "SELECT target FROM cache_links WHERE source = ? AND digest = ? AND position = ?"
                " AND output = ? AND selector = ?",
                (key_id, digest, position, output, selector or ""),
            )
            found.update(target for (target,) in rows)
        return found

    def records(self, key_id: str) -> list[Record]:
        rows = self._database.rows(
            "SELECT record, created FROM cache_records WHERE key = ? ORDER BY created DESC, record",
            (key_id,),
        )
        return [Record(record, created) for record, created in rows]

    def save(self, key_id: str, record_id: str, created: float) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO cache_records VALUES (?, ?, ?)", (key_id, record_id, created)
        )

    def link(
        self,
        from_id: str,
        position: int,
        output: int,
        digest: str,
        selector: str | None,
        target_id: str,
    ) -> None:
        self._database.execute(
            "INSERT OR IGNORE INTO cache_links VALUES (?, ?, ?, ?, ?, ?)",
            (from_id, position, output, digest, selector or "", target_id),
        )

    def drop(self, record_id: str) -> None:
        self._database.execute("DELETE FROM cache_records WHERE record = ?", (record_id,))
