"""Conformance of key stores: the one in memory and the one in SQLite behave alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from torana.core.cache.keys import SqliteKeyStore
from torana.core.database import Database
from torana.core.oci.digest import Digest
from torana.core.solver.memorystores import MemoryKeyStore
from torana.core.solver.stores import CONTENT_OUTPUT, KeyStore, Record

OP = Digest.of_text("op")
SELECTOR = Digest.of_text("selector")


@pytest.fixture(params=["memory", "sqlite"])
def keys(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KeyStore]:
    if request.param == "memory":
        yield MemoryKeyStore()
        return
    database = Database(tmp_path / "store.db")
    yield SqliteKeyStore(database)
    database.close()


def test_root_key_is_of_digest_and_output(keys: KeyStore) -> None:
    assert keys.root_key(OP, 0) == Digest.of_text(f"{OP}@0")
    assert keys.root_key(OP, CONTENT_OUTPUT) == Digest.of_text(f"{OP}@-1")
    assert keys.root_key("random:abc", 3) == "random:abc"


def test_query_matches_every_part_of_a_link(keys: KeyStore) -> None:
    keys.link("a", 1, 2, OP, SELECTOR, "target")
    keys.link("a", 1, 2, OP, SELECTOR, "target")
    assert keys.query(["x", "a"], 1, OP, 2, SELECTOR) == {"target"}
    assert keys.query(["x"], 1, OP, 2, SELECTOR) == set()
    assert keys.query(["a"], 0, OP, 2, SELECTOR) == set()
    assert keys.query(["a"], 1, OP, 0, SELECTOR) == set()
    assert keys.query(["a"], 1, OP, 2, None) == set()
    assert keys.query(["a"], 1, SELECTOR, 2, SELECTOR) == set()
    assert keys.query([], 1, OP, 2, SELECTOR) == set()


def test_query_gives_the_targets_of_all_keys(keys: KeyStore) -> None:
    keys.link("a", 0, 0, OP, None, "t1")
    keys.link("a", 0, 0, OP, None, "t2")
    keys.link("b", 0, 0, OP, None, "t3")
    assert keys.query({"a", "b"}, 0, OP, 0, None) == {"t1", "t2", "t3"}


def test_records_come_newest_first_and_once(keys: KeyStore) -> None:
    for record, created in (("r1", 1.0), ("r3", 3.0), ("r2", 2.0), ("r0", 3.0)):
        keys.save("key", record, created)
    assert [each.id for each in keys.records("key")] == ["r0", "r3", "r2", "r1"]
    keys.save("key", "r1", 4.0)
    assert keys.records("key")[0] == Record("r1", 4.0)
    assert len(keys.records("key")) == 4
    assert keys.records("other") == []


def test_drop_removes_a_record_from_all_keys(keys: KeyStore) -> None:
    keys.save("k1", "gone", 1.0)
    keys.save("k2", "gone", 1.0)
    keys.save("k2", "kept", 1.0)
    keys.drop("gone")
    assert keys.records("k1") == []
    assert [each.id for each in keys.records("k2")] == ["kept"]


def test_sqlite_keys_survive_the_process(tmp_path: Path) -> None:
    first = Database(tmp_path / "store.db")
    SqliteKeyStore(first).link("a", 0, 0, OP, None, "t")
    SqliteKeyStore(first).save("t", "r", 1.5)
    first.close()
    second = Database(tmp_path / "store.db")
    keys = SqliteKeyStore(second)
    assert keys.query(["a"], 0, OP, 0, None) == {"t"}
    assert [(each.id, each.created) for each in keys.records("t")] == [("r", 1.5)]
    second.close()
