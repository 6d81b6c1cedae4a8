"""`Copies`: what a copy of a client's folder made last time, for the next one to start from.

A copy that is done again because one file has changed makes the others anew, just as they are in
the snapshot before. They are linked from there: a link needs no inode and no data. Snapshots are
never written to, so that two may share a file, as stacks do.

A row names the latest snapshot of one copy, with the digests of the files that were copied into it.
`copy_origins` says which snapshot another one shares files with.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from torana.core.cache.lease import HoldKind
from torana.core.cache.ref import ImmutableRef, MutableRef
from torana.core.database import pack, unpack
from torana.core.errors import NotFoundError
from torana.core.oci.digest import Digest
from torana.core.records import dataclass

if TYPE_CHECKING:
    from torana.core.cache.manager import CacheManager

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS copies (
    key TEXT PRIMARY KEY, ref TEXT NOT NULL, value BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS copies_ref ON copies (ref);
CREATE TABLE IF NOT EXISTS copy_origins (
    ref TEXT PRIMARY KEY, earlier TEXT NOT NULL
) WITHOUT ROWID;
"""

CopiedFiles = Mapping[bytes, Mapping[bytes, str]]
"""Digests of files in the client's folder, by directory and name of their copies."""


@dataclass(frozen=True, slots=True)
class EarlierCopy:
    """The snapshot of an earlier copy, held until it is released; `layer` has its own files."""

    ref: ImmutableRef
    layer: bytes
    files: CopiedFiles


class Copies:
    """The latest copies of a store."""

    def __init__(self, manager: CacheManager) -> None:
        self._manager = manager
        self._database = manager.database
        self._database.execute_script(_TABLES)
        manager.records.on_delete.append(self.forget)

    def find(self, key: Digest) -> EarlierCopy | None:
        """Give the latest copy with a key, where its snapshot is still there. Blocks."""
        row = self._database.row("SELECT ref, value FROM copies WHERE key = ?", (key,))
        files = None if row is None else unpack(row[1])
        if row is None or files is None:
            return None
        try:
            ref = self._manager.find(row[0])
        except NotFoundError:
            return None
        return EarlierCopy(ref, self.layer(ref), files)

    def layer(self, ref: ImmutableRef | MutableRef) -> bytes:
        """Give the directory with a snapshot's own files."""
        return os.fsencode(self._manager.snapshots.directories(ref.snapshot_name)[0])

    def save(
        self, key: Digest, ref: ImmutableRef, files: CopiedFiles, earlier: EarlierCopy | None
    ) -> None:
        """Make `ref`, which may have files of `earlier`, the latest copy with a key."""
        with self._database.transaction():
            self._database.execute(
                "INSERT OR REPLACE INTO copies VALUES (?, ?, ?)", (key, ref.id, pack(files))
            )
            if earlier is not None:
                self._database.execute(
                    "INSERT OR REPLACE INTO copy_origins VALUES (?, ?)", (ref.id, earlier.ref.id)
                )

    @contextmanager
    def origin(self, ref_id: str) -> Iterator[ImmutableRef | None]:
        """Give the snapshot that another one has files of, where it is; held while entered."""
        row = self._database.row("SELECT earlier FROM copy_origins WHERE ref = ?", (ref_id,))
        if row is None:
            yield None
            return
        self._manager.lease.hold(HoldKind.REF, row[0])
        try:
            record = self._manager.records.get(row[0])
            is_there = record is not None and self._manager.has_data(record)
            yield self._manager.borrow(row[0]) if is_there else None
        finally:
            self._manager.lease.release(HoldKind.REF, row[0])

    def forget(self, ref_id: str) -> None:
        self._database.execute("DELETE FROM copies WHERE ref = ?", (ref_id,))
        self._database.execute("DELETE FROM copy_origins WHERE ref = ?", (ref_id,))
