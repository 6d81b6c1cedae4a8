"""`FileIndex`: digests of a client's files by what `stat` says of them, kept between builds.

A file that looks as it did when it was hashed is not read again. What is compared is type and mode,
size, both times to the nanosecond, inode and owner. Programs can set an mtime back, but not a
ctime, and any change of content, mode or attributes moves that.

One change cannot be seen: a second one within the same tick of the clock as the first. So an entry
is kept only if both its times are clearly older than the moment at which it was looked at, as git
does for its index; a file that is still warm is hashed again by the next build.

Spec: git, Documentation/technical/racy-git.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Final

from torana.core.database import Database, pack, unpack
from torana.core.oci.digest import Digest

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS file_states (
    root TEXT NOT NULL, folder BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (root, folder)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS file_state_roots (
    root TEXT PRIMARY KEY, last_used REAL NOT NULL
) WITHOUT ROWID;
"""
_WARM_NS: Final = 20_000_000  # two ticks of the slowest clock that file systems use
_SINGLE_LOADS: Final = 8  # folders loaded one by one before all are
_UNUSED_S: Final = 60 * 86_400.0
_SIGNATURE: Final = struct.Struct("=IQqqQII")

Signature = bytes
"""What is compared; equal signatures mean that nothing has changed."""


def signature(status: os.stat_result) -> Signature:
    """Give what changes when a file does."""
    return _SIGNATURE.pack(
        status.st_mode,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
        status.st_uid,
        status.st_gid,
    )


def is_settled(status: os.stat_result, looked_ns: int) -> bool:
    """Say whether a later change of a file is sure to show; `looked_ns` is before the look."""
    return max(status.st_mtime_ns, status.st_ctime_ns) < looked_ns - _WARM_NS


class FileIndex:
    """The known files of one folder of a client. Not to be used by two threads at once."""

    def __init__(self, database: Database, root: Path) -> None:
        self._database = database
        self._root = str(root)
        database.execute_script(_TABLES)
        self._folders: dict[bytes, dict[bytes, tuple[Signature, str]]] = {}
        self._changed: set[bytes] = set()
        self._has_all = False

    def folder(self, path: bytes) -> Mapping[bytes, tuple[Signature, str]]:
        """Give what is known of the entries of a directory, by name."""
        found = self._folders.get(path)
        if found is None:
            self._load(path)
            found = self._folders.setdefault(path, {})
        return found

    def _load(self, path: bytes) -> None:
        if self._has_all:
            return
        query = "SELECT folder, value FROM file_states WHERE root = ?"
        if len(self._folders) < _SINGLE_LOADS:
            rows = self._database.rows(query + " AND folder = ?", (self._root, path))
        else:
            rows = self._database.rows(query, (self._root,))
            self._has_all = True
        for folder, value in rows:
            if folder not in self._folders:
                entries = unpack(value) or ()
                self._folders[folder] = {name: (known, digest) for name, known, digest in entries}

    def note(
        self, folder: bytes, name: bytes, status: os.stat_result, digest: Digest, looked_ns: int
    ) -> None:
        """Remember an entry that was just hashed, if it can be trusted."""
        self.folder(folder)
        known = self._folders[folder]
        if is_settled(status, looked_ns):
            known[name] = (signature(status), str(digest))
            self._changed.add(folder)
        elif known.pop(name, None) is not None:
            self._changed.add(folder)

    def keep_only(self, folder: bytes, names: Container[bytes]) -> None:
        """Forget entries of a directory that are no longer there."""
        gone = [name for name in self.folder(folder) if name not in names]
        for name in gone:
            del self._folders[folder][name]
        if gone:
            self._changed.add(folder)

    def save(self) -> None:
        """Write what is new; where nothing is, nothing is written."""
        if not self._changed:
            return
        now = time.time()
        with self._database.transaction():
            for folder in self._changed:
                entries = self._folders[folder]
                if not entries:
                    self._database.execute(
                        "DELETE FROM file_states WHERE root = ? AND folder = ?",
                        (self._root, folder),
                    )
                    continue
                value = pack([[name, *entry] for name, entry in entries.items()])
                self._database.execute(
                    "INSERT OR REPLACE INTO file_states VALUES (?, ?, ?)",
                    (self._root, folder, value),
                )
            self._database.execute(
                "INSERT OR REPLACE INTO file_state_roots VALUES (?, ?)", (self._root, now)
            )
            self._forget_unused(now)
        self._changed.clear()

    def _forget_unused(self, now: float) -> None:
        gone = self._database.rows(
            "DELETE FROM file_state_roots WHERE last_used < ? RETURNING root", (now - _UNUSED_S,)
        )
        for row in gone:
            self._database.execute("DELETE FROM file_states WHERE root = ?", row)
