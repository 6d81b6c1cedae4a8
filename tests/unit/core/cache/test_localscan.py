from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from torana.core.cache import scannedtree
from torana.core.cache.checksum import content_digest
from torana.core.cache.entrydigest import digest_on_disk
from torana.core.cache.fileindex import FileIndex, is_settled, signature
from torana.core.cache.localscan import LocalScan
from torana.core.cache.ref import Selector
from torana.core.cache.treefilter import TreeFilter
from torana.core.database import Database
from torana.core.oci.digest import Digest

LONG_AGO_NS = 1_500_000_000_000_000_000


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "torana.db")
    yield database
    database.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    for name in ("a/one.txt", "a/two.txt", "b/deep/three.txt", "top.txt"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (root / "link").symlink_to("a/one.txt")
    return root


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read, as they are."""
    found: list[str] = []

    def spy(full: bytes, status: os.stat_result, *, is_local: bool = False) -> Digest:
        found.append(os.fsdecode(os.path.basename(full)))
        return digest_on_disk(full, status, is_local=is_local)

    monkeypatch.setattr(scannedtree, "digest_on_disk", spy)
    return found


def age(monkeypatch: pytest.MonkeyPatch, seconds: int = 60) -> None:
    """Let the clock stand where everything on disk is old."""
    now = time.time_ns() + seconds * 1_000_000_000
    monkeypatch.setattr("torana.core.cache.localscan.time.time_ns", lambda: now)


def scan(folder: Path, database: Database | None = None, **sent: list[str]) -> LocalScan:
    index = None if database is None else FileIndex(database, folder)
    return LocalScan(os.fsencode(folder), sent=TreeFilter(**sent), index=index)


def digest(tree: LocalScan, path: str = "/") -> Digest:
    found = content_digest(tree, [Selector(path=path)])
    tree.save()
    return found


# The index


def test_an_unchanged_tree_is_not_read_again(
    folder: Path, database: Database, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    age(monkeypatch)
    first = digest(scan(folder, database))
    assert len(hashed) == 8
    hashed.clear()
    assert digest(scan(folder, database)) == first == digest(scan(folder))
    assert len(hashed) == 8, "the one without an index reads everything, the other nothing"


def test_a_changed_file_costs_its_own_hash(
    folder: Path, database: Database, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    age(monkeypatch)
    before = digest(scan(folder, database))
    (folder / "b/deep/three.txt").write_text("changed")
    hashed.clear()
    after = digest(scan(folder, database))
    assert hashed == ["three.txt"]
    assert after != before
    assert after == digest(scan(folder))


def test_the_same_size_and_mtime_do_not_hide_a_change(
    folder: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(monkeypatch)
    path = folder / "top.txt"
    os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    digest(scan(folder, database))
    path.write_text("7 chars")
    os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    assert digest(scan(folder, database)) == digest(scan(folder))


def test_racily_clean_files_are_hashed_again(
    folder: Path, database: Database, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    just_made = max(path.lstat().st_ctime_ns for path in folder.rglob("*"))
    monkeypatch.setattr("torana.core.cache.localscan.time.time_ns", lambda: just_made + 1_000_000)
    digest(scan(folder, database))
    hashed.clear()
    digest(scan(folder, database))
    assert {"one.txt", "two.txt", "three.txt", "top.txt"} <= set(hashed)


def test_a_file_that_becomes_warm_is_forgotten(
    folder: Path, database: Database, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        age(patch)
        digest(scan(folder, database))
    (folder / "top.txt").write_text("now")
    warm = (folder / "top.txt").stat().st_ctime_ns
    monkeypatch.setattr("torana.core.cache.localscan.time.time_ns", lambda: warm)
    digest(scan(folder, database))
    hashed.clear()
    digest(scan(folder, database))
    assert "top.txt" in hashed
    assert "one.txt" not in hashed


def test_both_times_have_to_be_old(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    now = time.time_ns()
    assert not is_settled(path.stat(), now)
    assert is_settled(path.stat(), now + 1_000_000_000)
    os.utime(path, ns=(now, now + 5_000_000_000))
    assert not is_settled(path.stat(), now + 1_000_000_000)


def test_modes_and_owners_are_part_of_the_signature(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    before = signature(path.stat())
    path.chmod(0o600)
    assert signature(path.stat()) != before


def test_vanished_files_leave_the_index(
    folder: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(monkeypatch)
    digest(scan(folder, database))
    (folder / "a/one.txt").unlink()
    digest(scan(folder, database))
    assert set(FileIndex(database, folder).folder(b"a")) == {b"two.txt"}


def test_one_file_is_looked_up_without_its_neighbours(
    folder: Path, database: Database, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    age(monkeypatch)
    digest(scan(folder, database), "a/one.txt")
    assert hashed == ["one.txt"]
    hashed.clear()
    digest(scan(folder, database), "a/one.txt")
    assert hashed == []
    digest(scan(folder, database))
    assert "one.txt" not in hashed


def test_other_folders_have_an_index_of_their_own(
    folder: Path, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(monkeypatch)
    digest(scan(folder, database))
    assert not FileIndex(database, tmp_path / "other").folder(b"")


def test_folders_unused_for_long_are_forgotten(
    folder: Path, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(monkeypatch)
    digest(scan(folder, database))
    database.execute("UPDATE file_state_roots SET last_used = 0")
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").touch()
    digest(scan(other, database))
    roots = {root for (root,) in database.rows("SELECT DISTINCT root FROM file_states")}
    assert roots == {str(other)}


def test_a_row_of_another_schema_counts_as_absent(
    folder: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(monkeypatch)
    expected = digest(scan(folder, database))
    database.execute("UPDATE file_states SET value = ?", (b"\x92\xcd\xff\xff\x90",))
    assert digest(scan(folder, database)) == expected


names = st.sampled_from(["a/one.txt", "a/two.txt", "b/deep/three.txt", "top.txt", "new.txt"])
edits = st.lists(st.tuples(names, st.sampled_from(["write", "remove", "chmod", "touch"])))


@given(edits)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_an_index_never_changes_a_digest(
    folder: Path, database: Database, steps: list[tuple[str, str]]
) -> None:
    for number, (name, edit) in enumerate(steps):
        path = folder / name
        if edit == "write":
            path.write_text(str(number % 3))
        elif edit == "remove":
            path.unlink(missing_ok=True)
        elif path.exists():
            path.chmod(0o600 + number % 8) if edit == "chmod" else path.touch()
        assert digest(scan(folder, database)) == digest(scan(folder))


# What is sent


def shown(tree: LocalScan) -> list[str]:
    return [os.fsdecode(path) for path, _ in tree.entries()]


def test_excluded_paths_are_not_there(folder: Path) -> None:
    tree = scan(folder, exclude=["a", "*.txt"])
    assert shown(tree) == ["b", "b/deep", "b/deep/three.txt", "link"]
    assert tree.mode(b"a/one.txt") is None
    assert tree.mode(b"top.txt") is None


def test_folders_that_hold_something_sent_are_there(folder: Path) -> None:
    tree = scan(folder, include=["b/deep/three.txt"])
    assert shown(tree) == ["b", "b/deep", "b/deep/three.txt"]
    (folder / "b/empty").mkdir()
    assert shown(scan(folder, include=["b/none"])) == []


def test_exceptions_bring_paths_back(folder: Path) -> None:
    assert shown(scan(folder, exclude=["*", "!a/two.txt"])) == ["a", "a/two.txt"]


def test_a_filter_leaves_nothing_of_others_in_the_digest(folder: Path, tmp_path: Path) -> None:
    filtered = digest(scan(folder, exclude=["a", "link"]))
    copy = tmp_path / "copy"
    (copy / "b/deep").mkdir(parents=True)
    (copy / "top.txt").write_text("top.txt")
    (copy / "b/deep/three.txt").write_text("b/deep/three.txt")
    assert filtered == digest(scan(copy))


def test_folders_without_anything_wanted_are_not_listed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[bytes] = []
    listing = LocalScan._listing

    def spy(self: LocalScan, path: bytes) -> dict[bytes, os.stat_result]:
        listed.append(path)
        return listing(self, path)

    monkeypatch.setattr(LocalScan, "_listing", spy)
    assert shown(scan(folder, include=["a/one.txt"])) == ["a", "a/one.txt"]
    assert b"b" not in listed


def test_owners_of_a_client_do_not_count(folder: Path) -> None:
    tree = scan(folder)
    assert tree.entry(b"top.txt") == digest_on_disk(
        os.fsencode(folder / "top.txt"),
        os.stat_result((0o100644, 0, 0, 1, 0, 0, 7, 0, 0, 0)),
    )


def test_big_files_are_hashed_side_by_side(folder: Path, hashed: list[str]) -> None:
    for number in range(3):
        (folder / f"big{number}").write_bytes(bytes([number]) * 300_000)
    tree = scan(folder)
    first = tree.recursive(b"")
    assert set(hashed[:3]) == {"big0", "big1", "big2"}
    assert first == scan(folder).recursive(b"")
