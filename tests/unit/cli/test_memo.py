from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from torana.cli import memo
from torana.cli.memo import Answer, Beginning, Watch


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in list(os.environ):
        if name.startswith("TORANA_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TORANA_ROOT", str(tmp_path / "store"))
    yield tmp_path / "store"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    for name in ("a/one", "b/two"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(name)
    return folder


def remember(folder: Path) -> None:
    begun = Beginning()
    begun.started_ns = time.time_ns() + 10**9  # everything is old
    memo.remember(["build"], [Watch(str(folder))], begun, Answer(b"out", b"err"))


def test_an_unchanged_tree_is_recalled(folder: Path) -> None:
    remember(folder)
    found = memo.recall(["build"])
    assert found is not None
    assert (found.stdout, found.stderr) == (b"out", b"err")
    assert memo.recall(["build", "other"]) is None


@pytest.mark.parametrize("name", ["a/one", "b/two", "b/new"])
def test_changes_are_seen(folder: Path, name: str) -> None:
    remember(folder)
    (folder / name).write_text("changed")
    assert memo.recall(["build"]) is None


def test_what_is_installed_or_removed_is_seen(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "lib/site-packages"
    site.mkdir(parents=True)
    monkeypatch.setattr("sys.path", [str(tmp_path), str(site), str(tmp_path / "missing")])
    installed = site / "torana_just-1.0.dist-info"
    changes: tuple[Callable[[], None], ...] = (installed.mkdir, installed.rmdir)
    for change in changes:
        os.utime(site, (1, 1))  # the clock of a file system may stand still for a test
        remember(folder)
        assert memo.recall(["build"]) is not None
        change()
        assert memo.recall(["build"]) is None
    remember(folder)
    (tmp_path / "out").mkdir()  # a folder of modules is none of packages
    assert memo.recall(["build"]) is not None


def test_removals_and_old_files_moved_in_are_seen(folder: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_text("old")
    remember(folder)
    (folder / "a/one").unlink()
    assert memo.recall(["build"]) is None
    remember(folder)
    old.rename(folder / "old")
    assert memo.recall(["build"]) is None


def test_looking_ends_at_the_first_younger_entry(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(folder)
    (folder / "a/one").write_text("changed")
    (folder / "b/two").write_text("changed")
    scanned: list[str] = []
    scandir = os.scandir

    def spy(path: str) -> object:
        scanned.append(os.path.basename(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", spy)
    assert memo.recall(["build"]) is None
    assert len(scanned) == 2, "the root, and one of the two folders"


def test_a_memo_in_another_form_is_ignored(folder: Path, store: Path) -> None:
    remember(folder)
    (file,) = (store / "memo").iterdir()
    head, watched, rest = file.read_bytes().split(b"\0\0", 2)
    file.write_bytes(b"\0\0".join([head, watched.rpartition(b" ")[0], rest]))
    assert memo.recall(["build"]) is None
