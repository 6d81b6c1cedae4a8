"""Conformance of key stores: the one in memory and the one in SQLite behave alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from torana.core.cache.keys import SqliteKeyStore
from torana.core.database import Database
from torana.core.oci.digest import Digest
from torana.core.solver.memory import MemoryKeyStore, MemoryResultStore
from torana.core.solver.stores import (
    CONTENT_OUTPUT,
    KeyStore,
    Link,
    Record,
    prune_missing,
    root_key,
)

OP = Digest.of_text("op")
SELECTOR = Digest.of_text("selector")
LINK = Link(0, 0, OP, None)


@pytest.fixture(params=["memory", "sqlite"])
def keys(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KeyStore]:
    if request.param == "memory":
        yield MemoryKeyStore()
        return
    database = Database(tmp_path / "store.db")
    yield SqliteKeyStore(database)
    database.close()


@pytest.fixture(params=[False, True], ids=["kept back", "flushed"])
def is_flushed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def ids(keys: KeyStore, key: str) -> list[str]:
    return [record.id for record in keys.records(key)]


def test_root_key_is_of_digest_and_output() -> None:
    assert root_key(OP, 0) == Digest.of_text(f"{OP}@0")
    assert root_key(OP, CONTENT_OUTPUT) == Digest.of_text(f"{OP}@-1")
    assert root_key("random:abc", 3) == "random:abc"


def test_link_matches_by_all_its_parts(keys: KeyStore, is_flushed: bool) -> None:
    link = Link(1, 2, OP, SELECTOR)
    keys.add_link("a", link, "target")
    keys.add_link("a", link, "target")
    if is_flushed:
        keys.flush()
    assert keys.targets("a", link) == {"target"}
    assert keys.targets("x", link) == set()
    for other in (
        link._replace(position=0),
        link._replace(output=0),
        link._replace(selector=None),
        link._replace(digest=SELECTOR),
    ):
        assert keys.targets("a", other) == set()


def test_link_leads_to_several_keys(keys: KeyStore, is_flushed: bool) -> None:
    keys.add_link("a", LINK, "t1")
    if is_flushed:
        keys.flush()
    keys.add_link("a", LINK, "t2")
    assert keys.targets("a", LINK) == {"t1", "t2"}
    assert list(keys.back_links("t2")) == [("a", LINK)]


def test_records_come_newest_first_and_once(keys: KeyStore, is_flushed: bool) -> None:
    for record, created in (("r1", 1.0), ("r3", 3.0), ("r2", 2.0), ("r0", 3.0)):
        keys.add_record("key", Record(record, created))
    if is_flushed:
        keys.flush()
    assert ids(keys, "key") == ["r0", "r3", "r2", "r1"]
    keys.add_record("key", Record("r1", 4.0))
    assert keys.records("key")[0] == Record("r1", 4.0)
    assert len(keys.records("key")) == 4
    assert keys.records("other") == []
    assert keys.record_ids() == ["r0", "r1", "r2", "r3"]
    assert keys.keys_of("r2") == ["key"]


def test_key_exists_by_records_or_links(keys: KeyStore, is_flushed: bool) -> None:
    keys.add_record("k1", Record("r", 1.0))
    keys.add_link("k2", LINK, "k3")
    if is_flushed:
        keys.flush()
    assert [keys.exists(key) for key in ("k1", "k2", "k3", "k4")] == [True, True, False, False]


def test_scenario_66(keys: KeyStore, is_flushed: bool) -> None:
    keys.add_record("root", Record("below", 1.0))
    keys.add_link("root", LINK, "middle")
    keys.add_link("middle", LINK, "top")
    keys.add_record("top", Record("above", 1.0))
    keys.add_record("side", Record("above", 1.0))
    if is_flushed:
        keys.flush()
    keys.release("below")
    assert ids(keys, "root") == []
    assert keys.targets("root", LINK) == {"middle"}, "a link still leads to a record"
    keys.release("above")
    assert not any(keys.exists(key) for key in ("root", "middle", "top", "side"))
    assert keys.targets("root", LINK) == keys.targets("middle", LINK) == set()
    assert list(keys.back_links("middle")) == []
    assert keys.record_ids() == []


def test_release_keeps_other_records_and_branches(keys: KeyStore) -> None:
    keys.add_link("root", LINK, "a")
    keys.add_link("root", LINK, "b")
    for record in ("r1", "r2"):
        keys.add_record("a", Record(record, 1.0))
    keys.add_record("b", Record("r3", 1.0))
    keys.release("r1")
    assert ids(keys, "a") == ["r2"]
    keys.release("r2")
    assert keys.targets("root", LINK) == {"b"}
    keys.release("unknown")


async def test_scenario_67(keys: KeyStore) -> None:
    keys.add_record("a", Record("gone", 1.0))
    keys.add_record("b", Record("scratch", 1.0))
    assert prune_missing(keys, MemoryResultStore()) == ["gone"]
    assert not keys.exists("a")
    assert ids(keys, "b") == ["scratch"]


def test_sqlite_keys_survive_the_process(tmp_path: Path) -> None:
    first = Database(tmp_path / "store.db")
    store = SqliteKeyStore(first)
    store.add_link("a", LINK, "t")
    store.add_record("t", Record("r", 1.5))
    store.flush()
    first.close()
    second = Database(tmp_path / "store.db")
    keys = SqliteKeyStore(second)
    assert keys.targets("a", LINK) == {"t"}
    assert keys.records("t") == [Record("r", 1.5)]
    second.close()


def test_sqlite_keeps_writes_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(tmp_path / "store.db")
    keys = SqliteKeyStore(database)
    keys.add_record("t", Record("r", 1.5))

    def fail(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(database, "execute_many", fail)
        with pytest.raises(OSError, match="disk full"):
            keys.flush()
    other = SqliteKeyStore(database)
    assert other.records("t") == []
    keys.flush()
    assert other.records("t") == [Record("r", 1.5)]
    database.close()
