from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest

from torana.core.database import SCHEMA_VERSION, Database, pack, unpack
from torana.core.errors import CorruptError

TABLE = "CREATE TABLE IF NOT EXISTS t (k INTEGER PRIMARY KEY, v TEXT)"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "db")
    database.execute_script(TABLE)
    yield database
    database.close()


def keys(database: Database) -> list[int]:
    return [row[0] for row in database.rows("SELECT k FROM t ORDER BY k")]


def put(database: Database, key: int) -> None:
    assert database.execute("INSERT INTO t VALUES (?, ?)", (key, "v")) == 1


def test_statements(database: Database) -> None:
    put(database, 1)
    assert database.row("SELECT v FROM t WHERE k = 1") == ("v",)
    assert database.row("SELECT v FROM t WHERE k = 2") is None
    assert database.rows("INSERT INTO t VALUES (7, 'x') RETURNING k") == [(7,)]
    assert database.execute("DELETE FROM t") == 2
    database.close()
    put(database, 3)  # opened again
    assert keys(database) == [3]


def test_transaction(database: Database) -> None:
    with database.transaction():
        put(database, 1)
        put(database, 2)
    with pytest.raises(ZeroDivisionError), database.transaction():
        put(database, 3)
        raise ZeroDivisionError
    assert keys(database) == [1, 2]


def test_nested_transactions(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.transaction():
        put(database, 1)
        with database.transaction():
            put(database, 2)
        raise ZeroDivisionError
    assert keys(database) == []
    with database.transaction():
        put(database, 1)
        with pytest.raises(ZeroDivisionError), database.transaction():
            put(database, 2)
            with database.transaction():
                put(database, 3)
            raise ZeroDivisionError
        put(database, 4)
    assert keys(database) == [1, 4]
    with database.transaction():
        put(database, 5)
    assert keys(database) == [1, 4, 5]


def test_a_failed_statement_does_not_end_the_transaction(database: Database) -> None:
    with database.transaction():
        put(database, 1)
        with pytest.raises(sqlite3.IntegrityError):
            put(database, 1)
        put(database, 2)
    assert keys(database) == [1, 2]


def test_a_transaction_that_was_rolled_back_inside(database: Database) -> None:
    """As SQLite does by itself when the disk is full: the first error is the one to see."""
    with pytest.raises(ZeroDivisionError), database.transaction():
        put(database, 1)
        database.execute("ROLLBACK")
        raise ZeroDivisionError
    with database.transaction():
        put(database, 2)
    assert keys(database) == [2]


def test_mistakes_are_not_damage(database: Database) -> None:
    with pytest.raises(sqlite3.ProgrammingError):
        database.rows("SELECT ?", (1, 2))
    with pytest.raises(OSError, match="no such table"):
        database.rows("SELECT * FROM missing")


@pytest.mark.parametrize("where", ["start", "pages"])
def test_damage(tmp_path: Path, where: str) -> None:
    path = tmp_path / "db"
    database = Database(path)
    database.execute_script(TABLE)
    with database.transaction():
        for key in range(5000):
            put(database, key)
    database.close()
    data = bytearray(path.read_bytes())
    if where == "start":
        data[:100] = b"\xff" * 100
    else:
        data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(CorruptError, match="damaged") as caught:
        Database(path).rows("SELECT sum(length(v)) FROM t")
    assert "remove that file" in str(caught.value.hint)


def test_damage_is_seen_when_a_transaction_begins(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"no database at all, " * 300)
    with pytest.raises(CorruptError), Database(tmp_path / "db").transaction():
        pass


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="unable to open"):
        Database(tmp_path / "missing" / "db").rows("SELECT 1")


def test_threads_share_it(database: Database) -> None:
    def work(start: int) -> None:
        for key in range(start, start + 50):
            with database.transaction():
                put(database, key)

    threads = [threading.Thread(target=work, args=(n * 100,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys(database)) == 200


_WRITER = """
import sys, pathlib
from torana.core.database import Database
database = Database(pathlib.Path(sys.argv[1]))
sys.stdin.read()
database.execute_script("CREATE TABLE IF NOT EXISTS n (k INTEGER PRIMARY KEY, v INTEGER)")
database.execute("INSERT OR IGNORE INTO n VALUES (0, 0)")
for _ in range(100):
    with database.transaction():
        value = database.row("SELECT v FROM n")[0]
        database.execute("UPDATE n SET v = ?", (value + 1,))
"""


def test_processes_write_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "db"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path)],
            stdin=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for _ in range(4)
    ]
    for process in processes:  # all open the new file at once
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait() for process in processes] == [0, 0, 0, 0]
    database = Database(path)
    assert database.row("SELECT v FROM n") == (400,)
    database.close()


def test_what_a_killed_process_committed_is_there(tmp_path: Path) -> None:
    code = (
        "import sys, os, pathlib, signal\n"
        "from torana.core.database import Database\n"
        "database = Database(pathlib.Path(sys.argv[1]))\n"
        f"database.execute_script({TABLE!r})\n"
        "database.execute(\"INSERT INTO t VALUES (1, 'v')\")\n"
        "with database.transaction():\n"
        "    database.execute(\"INSERT INTO t VALUES (2, 'v')\")\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "db")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == -9
    database = Database(tmp_path / "db")
    assert keys(database) == [1]
    database.close()


def test_packed_values() -> None:
    for value in (None, {}, {"a": [1, b"x"], 3: True}, "é"):
        assert unpack(pack(value)) == value
    other = msgpack.packb([SCHEMA_VERSION + 1, "value"])
    for data in (other, b"", b"\xc1", b"\x05", msgpack.packb([1]), msgpack.packb([1, 2, 3])):
        assert unpack(data) is None
