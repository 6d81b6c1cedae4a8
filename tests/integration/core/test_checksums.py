"""Content digests of real trees, and of snapshots on real overlay mounts."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from torana.core.cache.checksum import content_digest, selected_digest
from torana.core.cache.local import ChangedDuringBuildError, LocalSelection, LocalTree
from torana.core.cache.localstats import LocalStats
from torana.core.cache.manager import CacheManager
from torana.core.cache.ref import ImmutableRef, Selector
from torana.core.cache.scannedtree import ScannedTree
from torana.core.database import Database
from torana.core.snapshots import namespace
from torana.core.snapshots.overlay import OverlaySnapshotter
from torana.core.testing.checksums import DIGESTS, make_tree, select

pytestmark = pytest.mark.needs("root")


@pytest.fixture(autouse=True, scope="module")
def private_mounts() -> None:
    if os.geteuid() == 0:
        namespace.enter()


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("worked")
    make_tree(root)
    return root


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[CacheManager]:
    database = Database(tmp_path / "torana.db")
    snapshots = OverlaySnapshotter(
        tmp_path / "overlay", options=("index=off", "redirect_dir=off", "metacopy=off")
    )
    manager = CacheManager(tmp_path, database, snapshots)
    yield manager
    manager.close()
    database.close()


def commit(
    manager: CacheManager, fill: Callable[[Path], object], parent: ImmutableRef | None = None
) -> ImmutableRef:
    async def work() -> ImmutableRef:
        mutable = await manager.new_mutable(parent)
        with mutable.mount() as root:
            fill(root)
        return await mutable.commit()

    return asyncio.run(work())


def scanned(ref: ImmutableRef, *selectors: Selector) -> str:
    with ref.mount() as root:
        return content_digest(ScannedTree(os.fsencode(root)), selectors)


@pytest.mark.parametrize(("selector", "expected"), DIGESTS, ids=str)
def test_worked_examples_on_disk(worked: Path, selector: Selector, expected: str) -> None:
    assert selected_digest(ScannedTree(os.fsencode(worked)), selector).encoded == expected


def test_worked_examples_in_a_snapshot(manager: CacheManager, worked: Path) -> None:
    ref = commit(manager, make_tree)
    selectors = [selector for selector, _ in DIGESTS]
    digest = asyncio.run(ref.content_digest(selectors))
    assert digest == content_digest(ScannedTree(os.fsencode(worked)), selectors)


def edit(root: Path) -> None:
    (root / "sub/a.txt").write_text("changed")
    shutil.rmtree(root / "sub/deep")
    (root / "emptydir").rmdir()
    (root / "emptydir").write_text("a file now")
    shutil.rmtree(root / "sticky")
    (root / "sticky").mkdir()  # opaque
    (root / "sticky/new").touch()
    (root / "fifo").unlink()


def test_layers_take_over_what_they_leave_alone(manager: CacheManager) -> None:
    base = commit(manager, make_tree)
    asyncio.run(base.content_digest([]))
    child = commit(manager, edit, base)
    below = commit(manager, lambda root: (root / "sub/b.md").unlink(), child)
    for ref in (child, below):
        for path in ("/", "sub", "lnsub/*", "sticky", "emptydir", "plain.txt"):
            selector = select(path, wildcard="*" in path)
            assert asyncio.run(ref.content_digest([selector])) == scanned(ref, selector)


def test_digests_of_untouched_paths_need_no_mount(
    manager: CacheManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = commit(manager, make_tree)
    asyncio.run(base.content_digest([]))
    child = commit(manager, lambda root: (root / "plain.txt").write_text("x"), base)
    expected = scanned(child, select("sub"))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("mounted")

    monkeypatch.setattr(manager.snapshots, "mount", refuse)
    assert asyncio.run(child.content_digest([select("sub")])) == expected


@pytest.mark.parametrize("few", [0, 16])
def test_a_view_shows_what_counts(
    manager: CacheManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    """Both ways: by hiding the rest, and by copying the little that is sent."""
    monkeypatch.setattr("torana.core.cache.localview._FEW", few)
    folder = tmp_path / "context"
    for name in ("keep/a", "keep/b", "drop/c", "top", "linked/d"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "link").symlink_to("linked")
    selection = LocalSelection(include=("keep",), exclude=("keep/b",), follow=("link/d",))
    tree = LocalTree(folder, manager=manager, selection=selection)
    expected = ["keep", "keep/a", "link", "linked", "linked/d"]
    with tree.mount() as root:
        assert bool(manager.view_mounts) == (few == 0)
        shown = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
        assert shown == expected
        view = ScannedTree(os.fsencode(root), is_local=True)
        assert asyncio.run(tree.content_digest([])) == content_digest(view, [])
    ref = asyncio.run(tree.snapshot())
    with ref.mount() as root:
        assert sorted(str(path.relative_to(root)) for path in root.rglob("*")) == expected


def test_only_stats_of_files_without_content(manager: CacheManager, tmp_path: Path) -> None:
    folder = tmp_path / "context"
    (folder / "dir").mkdir(parents=True)
    (folder / "dir/kept.json").write_text("{}")
    (folder / "dir/big.bin").write_bytes(bytes(1000))
    tree = LocalStats(folder, manager=manager, contents=("**/*.json",))
    with tree.mount() as root:
        names = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
        assert names == [".fsutil-metadata", "dir", "dir/kept.json"]
        first = (root / ".fsutil-metadata").read_bytes()
    assert b"dir/big.bin" in first
    before = asyncio.run(tree.content_digest([]))
    os.utime(folder / "dir/big.bin", (5, 5))
    again = LocalStats(folder, manager=manager, contents=("**/*.json",))
    assert asyncio.run(again.content_digest([])) != before, "stats are what counts"


def test_a_file_that_vanishes_meanwhile_fails_the_build(
    manager: CacheManager, tmp_path: Path
) -> None:
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "file").touch()
    tree = LocalTree(folder, manager=manager)
    assert tree.scan.names(b"") == [b"file"]
    (folder / "file").unlink()
    with pytest.raises(ChangedDuringBuildError, match="file"):
        asyncio.run(tree.content_digest([]))


def test_a_file_that_changes_after_it_was_hashed_fails_the_build(
    manager: CacheManager, tmp_path: Path
) -> None:
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "file").write_text("one")
    tree = LocalTree(folder, manager=manager)
    asyncio.run(tree.content_digest([]))
    tree.verify_unchanged()
    (folder / "file").write_text("another")
    tree.verify_unchanged(without={b"file"})
    with pytest.raises(ChangedDuringBuildError, match="`file`"):
        tree.verify_unchanged()
