"""`Database`: the one SQLite file of a store, shared by threads and processes.

One connection per process behind a lock: statements take tens of microseconds, so that sharing it
costs less than a connection per thread would. WAL with `synchronous=NORMAL`: a commit survives the
death of the process; a power cut may lose the last commits but never their consistency.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from torana.core.errors import CorruptError
from torana.core.faults import fault_point

SCHEMA_VERSION: Final = 1
_BUSY_TIMEOUT_S: Final = 60.0
_LITTLE_BYTES: Final = 256 << 10
_ERRNOS: Final = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EACCES,
}


def pack(value: Any) -> bytes:
    """Give a stored value: msgpack with the schema's version first."""
    import msgpack

    data: bytes = msgpack.packb([SCHEMA_VERSION, value])
    return data


def unpack(data: bytes) -> Any:
    """Read a stored value; None where it was written by another schema, which means "not there"."""
    import msgpack

    try:
        version, value = msgpack.unpackb(data, strict_map_key=False)
    except (TypeError, ValueError, msgpack.UnpackException):
        return None
    return value if version == SCHEMA_VERSION else None


def _set_up(connection: sqlite3.Connection) -> None:
    """Switch to WAL; for the first of several processes SQLite does not wait for the lock."""
    deadline = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError as err:
            is_busy = err.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    connection.execute("PRAGMA synchronous=NORMAL")


def _is_full(folder: Path) -> bool:
    try:
        status = os.statvfs(folder)
    except OSError:
        return False
    return status.f_bavail * status.f_frsize < _LITTLE_BYTES


class Database:
    """Tables of a store. Each owner of tables creates them by `execute_script` when it starts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._depth = 0

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                connection = sqlite3.connect(
                    self.path,
                    timeout=_BUSY_TIMEOUT_S,
                    isolation_level=None,
                    check_same_thread=False,
                )
            except sqlite3.DatabaseError as err:
                raise self._broken(err) from err
            try:
                _set_up(connection)
            except sqlite3.DatabaseError as err:
                connection.close()
                raise self._broken(err) from err
            self._connection = connection
        return self._connection

    def _broken(self, err: sqlite3.DatabaseError) -> Exception:
        """Give the error to raise: what is a mistake of the caller's stays as it is."""
        code = getattr(err, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return CorruptError(
                f"the store's database is damaged: {err}: `{self.path}`",
                hint="remove that file: cached results are lost, nothing else",
            )
        if isinstance(err, sqlite3.OperationalError):
            number = _ERRNOS.get(code)
            if code == sqlite3.SQLITE_IOERR and _is_full(self.path.parent):
                number = errno.ENOSPC  # SQLite does not say so of its shared memory
            if number is None:
                return OSError(f"{err}: {self.path}")
            return OSError(number, os.strerror(number), str(self.path))
        return err

    def execute_script(self, script: str) -> None:
        """Run statements that make tables (`CREATE TABLE IF NOT EXISTS`)."""
        with self._lock:
            try:
                self._open().executescript(script)
            except sqlite3.DatabaseError as err:
                raise self._broken(err) from err

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Give the rows of a query, or of a writing statement with RETURNING."""
        with self._lock:
            try:
                return self._open().execute(query, values).fetchall()
            except sqlite3.DatabaseError as err:
                raise self._broken(err) from err

    def row(self, query: str, values: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """Give the first row of a query, None without one."""
        found = self.rows(query, values)
        return found[0] if found else None

    def execute(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run a writing statement and give the number of rows it touched."""
        with self._lock:
            try:
                return self._open().execute(statement, values).rowcount
            except sqlite3.DatabaseError as err:
                raise self._broken(err) from err

    def execute_many(self, statement: str, values: Iterable[Sequence[Any]]) -> None:
        """Run a writing statement for each of `values`; best inside a transaction."""
        with self._lock:
            try:
                self._open().executemany(statement, values)
            except sqlite3.DatabaseError as err:
                raise self._broken(err) from err

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make everything inside happen or not happen.

        A nested one that fails undoes its own part; the rest is up to the outer one.
        Holds the lock: keep it short, and never wait inside.
        """
        with self._lock:
            level = self._depth
            self.execute(f"SAVEPOINT level{level}" if level else "BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
                fault_point("database.commit")
                self.execute(f"RELEASE level{level}" if level else "COMMIT")
            except BaseException:
                # SQLite itself rolls back when the disk is full, for one.
                if self._open().in_transaction:
                    self.execute(f"ROLLBACK TO level{level}" if level else "ROLLBACK")
                raise
            finally:
                self._depth -= 1

    def close(self) -> None:
        """Close the file; using the database again opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
