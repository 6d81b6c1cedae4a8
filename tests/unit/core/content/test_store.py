from __future__ import annotations

import array
import hashlib
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from torana.core.content.store import ContentStore
from torana.core.errors import CorruptError, NotFoundError
from torana.core.oci.digest import Digest

NOBODY = Digest.of(b"nobody wrote this")


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path / "content")


def ingests(store: ContentStore) -> list[str]:
    return os.listdir(store.ingest)


def test_commit(store: ContentStore) -> None:
    with store.writer() as writer:
        assert writer.write(b"hello ") == 6
        writer.write(bytearray(b"wor"))
        writer.write(memoryview(b"ld"))
        assert writer.size == 11
        digest = writer.commit()
    assert digest == Digest.of(b"hello world")
    assert store.read(digest) == b"hello world"
    assert store.size(digest) == 11
    assert list(store.digests()) == [digest]
    assert stat.S_IMODE(store.path(digest).stat().st_mode) == 0o444
    assert not ingests(store)


def test_wide_views_count_in_bytes(store: ContentStore) -> None:
    numbers = array.array("I", range(1000))
    with store.writer() as writer:
        assert writer.write(memoryview(numbers)) == 4000
        assert store.size(writer.commit(expected_size=4000)) == 4000


def test_what_is_not_committed_is_thrown_away(store: ContentStore) -> None:
    with store.writer() as writer:
        writer.write(b"x" * 100_000)
    assert not ingests(store)
    with pytest.raises(ZeroDivisionError), store.writer() as writer:
        writer.write(b"x")
        raise ZeroDivisionError
    assert not ingests(store)
    assert not list(store.digests())
    writer.abort()  # again is no error


def test_a_blob_is_not_there_before_its_commit(store: ContentStore) -> None:
    with store.writer() as writer:
        writer.write(b"late")
        assert not store.exists(Digest.of(b"late"))


@pytest.mark.parametrize(
    ("digest", "size"),
    [(NOBODY, None), (None, 3), (NOBODY, 4), (Digest.of(b"four"), 5)],
)
def test_mismatch(store: ContentStore, digest: Digest | None, size: int | None) -> None:
    with store.writer() as writer:
        writer.write(b"four")
        with pytest.raises(CorruptError):
            writer.commit(digest, size)
    assert not ingests(store)
    assert not list(store.digests())


def test_match(store: ContentStore) -> None:
    with store.writer() as writer:
        writer.write(b"four")
        assert writer.commit(Digest.of(b"four"), 4) == Digest.of(b"four")


def test_the_same_blob_twice(store: ContentStore) -> None:
    with store.writer() as one, store.writer() as two:
        one.write(b"same")
        two.write(b"same")
        assert one.commit() == two.commit()
    assert store.add(b"same") == Digest.of(b"same")
    assert len(list(store.digests())) == 1


def test_empty_blob(store: ContentStore) -> None:
    assert store.read(store.add(b"")) == b""


def test_missing(store: ContentStore) -> None:
    assert not store.exists(NOBODY)
    for call in (store.open, store.read, store.size, store.verify):
        with pytest.raises(NotFoundError, match=NOBODY):
            call(NOBODY)
    store.delete(NOBODY)


def test_delete(store: ContentStore) -> None:
    digest = store.add(b"gone")
    with store.open(digest) as file:
        store.delete(digest)
        assert file.read() == b"gone"
    assert not store.exists(digest)


def test_damage_is_seen(store: ContentStore) -> None:
    digest = store.add(b"sound")
    assert store.verify(digest)
    store.path(digest).chmod(0o644)
    store.path(digest).write_bytes(b"wound")
    assert not store.verify(digest)
    with pytest.raises(CorruptError):
        store.read(digest)


def test_sync_brings_what_was_made_or_used_to_the_disk(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(
        "torana.core.content.store.sync_files", lambda _, names: asked.append(sorted(names))
    )
    old, new = Digest.of(b"old"), Digest.of(b"new")
    ContentStore(store.root).add(b"old")  # another process, which has not synced it
    store.add(b"new")
    store.use(old)
    store.sync()
    store.sync()
    assert asked == [sorted([old.encoded, new.encoded]), []]


def test_a_failed_sync_is_done_again(store: ContentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = store.add(b"x")

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr("torana.core.content.durability.os.fdatasync", fail)
        store.sync()
    synced: list[int] = []
    monkeypatch.setattr("torana.core.content.durability.os.fdatasync", synced.append)
    store.sync()
    assert len(synced) == 1
    assert store.exists(digest)


def test_sync_of_a_blob_that_is_gone(store: ContentStore) -> None:
    store.delete(store.add(b"x"))
    store.sync()


def test_sync_of_many_blobs_at_once(store: ContentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torana.core.content.durability._MANY", 2)
    synced: list[int] = []
    monkeypatch.setattr("torana.core.content.durability.os.fdatasync", synced.append)
    store.add(b"x")
    store.add(b"y")
    store.sync()
    assert synced == []  # the file system as a whole


def test_reconcile_leaves_live_writers_alone(store: ContentStore) -> None:
    (store.ingest / "left").write_bytes(b"by a process that died")
    with store.writer() as writer:
        writer.write(b"alive")
        assert ContentStore(store.root).reconcile() == ["left"]
        assert store.exists(writer.commit())
    assert store.reconcile() == []


_WRITE = """
import sys, pathlib
from torana.core.content.store import ContentStore
store = ContentStore(pathlib.Path(sys.argv[1]))
writer = store.writer()
writer.write(b"x" * 1_000_000)
print("written", flush=True)
sys.stdin.read()
"""


def test_a_killed_writer_leaves_no_blob(store: ContentStore) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _WRITE, str(store.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        assert store.reconcile() == []
        assert len(ingests(store)) == 1
        process.kill()
    assert not list(store.digests())
    assert len(store.reconcile()) == 1
    assert not ingests(store)


def test_reconcile_in_a_race_with_writers(store: ContentStore) -> None:
    """A writer may be between making and locking its file at any time."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def sweep() -> None:
        other = ContentStore(store.root)
        try:
            while not stop.is_set():
                other.reconcile()
        except BaseException as err:
            failures.append(err)

    threads = [threading.Thread(target=sweep) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(300):
            data = b"%d" % number
            with store.writer() as writer:
                writer.write(data)
                writer.commit(Digest("sha256:" + hashlib.sha256(data).hexdigest()))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert len(list(store.digests())) == 300
