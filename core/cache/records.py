"""`RecordTable`: the rows of refs. A row is written after the data it names, and deleted before it.

`boot` marks rows whose data may not have reached the disk: it names the boot of the system that
wrote them, and becomes null once everything is synced. After a power cut those rows are dropped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from torana.core.cache.lease import HoldKind, boot_id, is_held
from torana.core.cache.ref import RecordType
from torana.core.database import Database, pack, unpack
from torana.core.faults import fault_point
from torana.core.records import dataclass

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS ref_records (
    id TEXT PRIMARY KEY, value BLOB NOT NULL, type TEXT NOT NULL, is_mutable INTEGER NOT NULL,
    key TEXT UNIQUE, created REAL NOT NULL, last_used REAL NOT NULL, usage_count INTEGER NOT NULL,
    size INTEGER, boot TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ref_records_boot ON ref_records (boot) WHERE boot IS NOT NULL;
CREATE TABLE IF NOT EXISTS ref_parents (
    id TEXT NOT NULL, position INTEGER NOT NULL, parent TEXT NOT NULL,
    PRIMARY KEY (id, position)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ref_parents_parent ON ref_parents (parent);
CREATE TABLE IF NOT EXISTS layers (
    ref TEXT NOT NULL, compression TEXT NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (ref, compression)
) WITHOUT ROWID;
"""
_COLUMNS: Final = "id, value, type, is_mutable, key, created, last_used, usage_count, size, boot"


@dataclass(frozen=True, slots=True, kw_only=True)
class RefRecord:
    """A row. `size_bytes` is None until somebody has asked for it."""

    id: str
    parents: tuple[str, ...]  # base first
    description: str
    record_type: RecordType
    created: float  # seconds since the epoch
    last_used: float
    usage_count: int
    is_mutable: bool = False
    key: str | None = None  # what a retained record or a layer of an image is found by
    size_bytes: int | None = None
    boot: str | None = None
    details: Any = None  # of the kind of ref; msgpack values


class RecordTable:
    """Rows of refs, their parents and their layers. Calls are short."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._boot = boot_id()
        self._unsynced: set[str] = set()
        self.on_delete: list[Callable[[str], object]] = []  # deletes what refers to a record
        database.execute_script(_TABLES)

    def add(
        self,
        id: str,
        *,
        parents: Sequence[str],
        description: str,
        record_type: RecordType,
        is_mutable: bool = False,
        key: str | None = None,
        details: Any = None,
        created: float | None = None,
    ) -> RefRecord:
        """Write the row of data that is there; its parents must be held.

        `created` is for what was made elsewhere, and earlier (seconds since the epoch).
        """
        now = time.time()
        created = now if created is None else created
        value = pack({"description": description, "details": details})
        self._unsynced.add(id)
        fault_point("record.add")
        with self._database.transaction():
            self._database.execute(
                f"INSERT INTO ref_records ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, 1, NULL, ?)",
                (id, value, record_type.value, is_mutable, key, created, now, self._boot),
            )
            for position, parent in enumerate(parents):
                self._database.execute(
                    "INSERT INTO ref_parents VALUES (?, ?, ?)", (id, position, parent)
                )
            fault_point("record.commit")
        return RefRecord(
            id=id,
            parents=tuple(parents),
            description=description,
            record_type=record_type,
            created=created,
            last_used=now,
            usage_count=1,
            is_mutable=is_mutable,
            key=key,
            boot=self._boot,
            details=details,
        )

    def get(self, id: str) -> RefRecord | None:
        """Give a row, None when it is gone or of another schema."""
        row = self._database.row(f"SELECT {_COLUMNS} FROM ref_records WHERE id = ?", (id,))
        if row is None:
            return None
        rows = self._database.rows(
            "SELECT parent FROM ref_parents WHERE id = ? ORDER BY position", (id,)
        )
        return _record(row, tuple(parent for (parent,) in rows))

    def find_key(self, key: str) -> str | None:
        """Give the id of the record that `key` names."""
        row = self._database.row("SELECT id FROM ref_records WHERE key = ?", (key,))
        return None if row is None else row[0]

    def keys(self, record_type: RecordType) -> list[tuple[str, str]]:
        """Give ids and keys of the rows of a type that have a key."""
        return self._database.rows(
            "SELECT id, key FROM ref_records WHERE type = ? AND key IS NOT NULL",
            (record_type.value,),
        )

    def drop_key(self, id: str) -> None:
        """Let a row be found by its key no more."""
        self._database.execute("UPDATE ref_records SET key = NULL WHERE id = ?", (id,))

    def all(self) -> list[RefRecord]:
        """Give all rows, newest use first."""
        parents: dict[str, list[str]] = {}
        for id, parent in self._database.rows(
            "SELECT id, parent FROM ref_parents ORDER BY id, position"
        ):
            parents.setdefault(id, []).append(parent)
        rows = self._database.rows(
            f"SELECT {_COLUMNS} FROM ref_records ORDER BY last_used DESC, id"
        )
        found = (_record(row, tuple(parents.get(row[0], ()))) for row in rows)
        return [record for record in found if record is not None]

    def ids(self) -> list[str]:
        """Give the ids of all rows, also of those that another schema wrote."""
        return [id for (id,) in self._database.rows("SELECT id FROM ref_records")]

    def exists(self, id: str) -> bool:
        """Say whether there is a row, of whatever schema."""
        return self._database.row("SELECT 1 FROM ref_records WHERE id = ?", (id,)) is not None

    def layer_blobs(self, ref: str | None = None) -> list[tuple[str, str, int]]:
        """Give refs (or one) with the digest and size of each blob that is a layer of theirs."""
        query = "SELECT ref, value FROM layers"
        rows = (
            self._database.rows(query)
            if ref is None
            else self._database.rows(f"{query} WHERE ref = ?", (ref,))
        )
        values = ((id, unpack(data)) for id, data in rows)
        return [(id, value["digest"], value["size"]) for id, value in values if value]

    def drop_layer(self, ref: str, digest: str) -> None:
        """Forget the layers of a ref whose blob is `digest`."""
        rows = self._database.rows("SELECT compression, value FROM layers WHERE ref = ?", (ref,))
        for compression, data in rows:
            value = unpack(data)
            if value and value["digest"] == digest:
                self._database.execute(
                    "DELETE FROM layers WHERE ref = ? AND compression = ?", (ref, compression)
                )

    def oldest_use(self) -> float | None:
        """Give when the record that was not used for longest was used; None without records."""
        row = self._database.row("SELECT MIN(last_used) FROM ref_records")
        return None if row is None else row[0]

    def touch(self, id: str) -> None:
        """Note a use."""
        self._database.execute(
            "UPDATE ref_records SET last_used = ?, usage_count = usage_count + 1 WHERE id = ?",
            (time.time(), id),
        )

    def used_mutable(self, id: str) -> None:
        """Note a use of a mutable record, whose size may be another now."""
        self._database.execute(
            "UPDATE ref_records SET last_used = ?, usage_count = usage_count + 1, size = NULL"
            " WHERE id = ?",
            (time.time(), id),
        )

    def set_size(self, id: str, size_bytes: int | None) -> None:
        """Note what the data takes; None when it is to be measured anew."""
        self._database.execute("UPDATE ref_records SET size = ? WHERE id = ?", (size_bytes, id))

    def unsynced(self) -> set[str]:
        """Give this process's rows whose data may not be on the disk yet."""
        return set(self._unsynced)

    def mark_synced(self, ids: set[str]) -> None:
        """Note that the data of `ids` is on the disk."""
        with self._database.transaction():
            for id in ids:
                self._database.execute("UPDATE ref_records SET boot = NULL WHERE id = ?", (id,))
        self._unsynced -= ids

    def lost(self) -> list[str]:
        """Give rows of an earlier boot whose data never was synced."""
        rows = self._database.rows(
            "SELECT id FROM ref_records WHERE boot IS NOT NULL AND boot != ?", (self._boot,)
        )
        return [id for (id,) in rows]

    def delete_free(self, id: str) -> bool:
        """Delete a row that nobody holds and that is nobody's parent; says whether it was."""
        with self._database.transaction():
            if is_held(self._database, HoldKind.REF, id):
                return False
            query = "SELECT 1 FROM ref_parents WHERE parent = ? LIMIT 1"
            if self._database.row(query, (id,)) is not None:
                return False
            self.delete(id)
        return True

    def delete(self, id: str) -> None:
        """Delete a row, whoever uses it: for data that is gone."""
        with self._database.transaction():
            fault_point("record.delete")
            self._database.execute("DELETE FROM layers WHERE ref = ?", (id,))
            self._database.execute("DELETE FROM ref_parents WHERE id = ?", (id,))
            self._database.execute("DELETE FROM ref_records WHERE id = ?", (id,))
            for delete_more in self.on_delete:
                delete_more(id)
        self._unsynced.discard(id)


def _record(row: tuple[Any, ...], parents: tuple[str, ...]) -> RefRecord | None:
    id, data, type_, is_mutable, key, created, last_used, usage_count, size, boot = row
    value = unpack(data)
    if value is None:
        return None
    return RefRecord(
        id=id,
        parents=parents,
        description=value["description"],
        record_type=RecordType(type_),
        created=created,
        last_used=last_used,
        usage_count=usage_count,
        is_mutable=bool(is_mutable),
        key=key,
        size_bytes=size,
        boot=boot,
        details=value["details"],
    )
