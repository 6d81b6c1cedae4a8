"""Digests of snapshots: kept on disk, and taken over from the snapshot below."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from torana.core.cache import scannedtree
from torana.core.cache.checksum import content_digest
from torana.core.cache.checksums import Checksums
from torana.core.cache.entrydigest import digest_on_disk
from torana.core.cache.layerpaths import LayerPaths
from torana.core.cache.records import RecordTable
from torana.core.cache.ref import RecordType, Selector
from torana.core.cache.scannedtree import ScannedTree
from torana.core.database import Database
from torana.core.oci.digest import Digest


class Store:
    """Snapshots whose whole trees and layers were made by hand, as overlayfs would show them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.database = Database(root / "torana.db")
        self.records = RecordTable(self.database)
        self.shown: list[str] = []
        self.layers: dict[str, list[str]] = {}
        self.checksums = self.opened()

    def opened(self) -> Checksums:
        """The digests as another process finds them."""
        return Checksums(self.records, self.database, self)  # type: ignore[arg-type]  # as far as they ask

    def make(self, name: str, parent: Any = None) -> Any:
        self.records.add(name, parents=(), description="", record_type=RecordType.REGULAR)
        below = [] if parent is None else self.layers[parent.id]
        for folder in (self.whole(name), self.layer(name)):
            folder.mkdir(parents=True)
        self.layers[name] = [str(self.layer(name)), *below]
        return SimpleNamespace(id=name, snapshot_name=name, parent=parent)

    def whole(self, name: str) -> Path:
        return self.root / name / "whole"

    def layer(self, name: str) -> Path:
        return self.root / name / "layer"

    def put(self, name: str, path: str, text: str, *, is_new: bool = True) -> None:
        """Write a file of the whole tree, and of the layer where it is new."""
        for folder in (self.whole(name), self.layer(name))[: 1 + is_new]:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)

    # Snapshotter

    @contextmanager
    def mount(self, name: str, *, readonly: bool) -> Iterator[Path]:
        assert readonly
        self.shown.append(name)
        yield self.whole(name)

    def directories(self, name: str) -> list[str]:
        return self.layers[name]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    yield store
    store.database.close()


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []

    def spy(full: bytes, status: os.stat_result, *, is_local: bool = False) -> Digest:
        found.append(os.fsdecode(full).rpartition("/whole")[2].lstrip("/"))
        return digest_on_disk(full, status, is_local=is_local)

    monkeypatch.setattr(scannedtree, "digest_on_disk", spy)
    return found


def everything(*paths: str) -> list[Selector]:
    return [Selector(path=path) for path in paths or ("/",)]


def fresh(store: Store, name: str, *paths: str) -> Digest:
    return content_digest(ScannedTree(os.fsencode(store.whole(name))), everything(*paths))


@pytest.fixture
def base(store: Store) -> Any:
    base = store.make("base")
    for path in ("a/one", "a/two", "b/c/three", "top"):
        store.put("base", path, path)
    return base


def test_known_digests_need_no_look_at_the_snapshot(
    store: Store, base: Any, hashed: list[str]
) -> None:
    expected = store.checksums.digest(base, everything())
    assert expected == fresh(store, "base")
    hashed.clear()
    store.shown.clear()
    assert store.checksums.digest(base, everything()) == expected
    assert store.opened().digest(base, everything("a/one", "/")) == fresh(
        store, "base", "a/one", "/"
    )
    assert store.shown == []
    assert store.opened().digest(base, everything()) == expected


def test_only_what_is_asked_for_is_read(store: Store, base: Any, hashed: list[str]) -> None:
    store.checksums.digest(base, everything("b"))
    assert set(hashed) == {"b", "b/c", "b/c/three"}


def changed(store: Store, base: Any) -> Any:
    child = store.make("child", base)
    for path in ("a/two", "b/c/three", "top"):
        store.put("child", path, path, is_new=False)
    store.put("child", "a/one", "changed")
    return child


def test_a_changed_file_costs_its_own_hash_and_its_ancestors(
    store: Store, base: Any, hashed: list[str]
) -> None:
    store.checksums.digest(base, everything())
    child = changed(store, base)
    expected = fresh(store, "child")
    hashed.clear()
    assert store.checksums.digest(child, everything()) == expected
    assert set(hashed) == {"", "a", "a/one"}


def test_nothing_is_taken_over_from_a_snapshot_without_digests(
    store: Store, base: Any, hashed: list[str]
) -> None:
    child = changed(store, base)
    assert store.checksums.digest(child, everything()) == fresh(store, "child")


def test_a_chain_of_snapshots(store: Store, base: Any, hashed: list[str]) -> None:
    store.checksums.digest(base, everything())
    child = changed(store, base)
    store.checksums.digest(child, everything("a"))
    grandchild = store.make("grandchild", child)
    store.put("grandchild", "a/one", "changed", is_new=False)
    for path in ("a/two", "b/c/three"):
        store.put("grandchild", path, path, is_new=False)
    store.put("grandchild", "top", "new top")
    hashed.clear()
    digest = store.opened().digest(grandchild, everything())
    assert set(hashed) == {"", "top"}
    assert digest == fresh(store, "grandchild")


def test_removed_and_replaced_paths_are_not_taken_over(store: Store, base: Any) -> None:
    """A layer's entry that is no directory hides what is below it, whatever it is."""
    store.checksums.digest(base, everything())
    child = store.make("child", base)
    store.put("child", "b", "a file now")
    store.put("child", "top", "top", is_new=False)
    store.put("child", "a/one", "a/one", is_new=False)
    (store.layer("child") / "a").mkdir()
    (store.layer("child") / "a/two").write_text("stands for a whiteout")
    digest = store.checksums.digest(child, everything())
    assert digest == fresh(store, "child")
    with pytest.raises(Exception, match="not found"):
        store.checksums.digest(child, everything("b/c/three"))


def test_digests_go_with_the_record(store: Store, base: Any) -> None:
    store.checksums.digest(base, everything())
    assert store.database.row("SELECT count(*) FROM checksums") == (1,)
    store.records.delete("base")
    assert store.database.row("SELECT count(*) FROM checksums") == (0,)
    store.put("base", "more", "more")
    store.opened().digest(base, everything())
    assert store.database.row("SELECT count(*) FROM checksums") == (0,)


def test_a_row_of_another_schema_counts_as_absent(store: Store, base: Any) -> None:
    expected = store.checksums.digest(base, everything())
    store.database.execute("UPDATE checksums SET value = ?", (b"\x92\xcd\xff\xff\x90",))
    assert store.opened().digest(base, everything()) == expected


def test_layers_name_what_they_touch(tmp_path: Path) -> None:
    (tmp_path / "dir/sub").mkdir(parents=True)
    (tmp_path / "dir/file").touch()
    layer = LayerPaths(os.fsencode(tmp_path))
    assert not any(layer.leaves_alone(p) for p in (b"", b"dir", b"dir/sub", b"dir/file"))
    assert not layer.leaves_alone(b"dir/file/below")
    assert layer.leaves_alone(b"dir/other")
    assert layer.leaves_alone(b"dir/sub/x/y")
