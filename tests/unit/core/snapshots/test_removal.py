"""Removing trees: any depth and width, and nothing that links point to."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from torana.core.snapshots.removal import remove_entry


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_a_file_a_link_and_a_fifo(folder: int, tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    (tmp_path / "target").mkdir()
    (tmp_path / "l").symlink_to("target")
    os.mkfifo(tmp_path / "p")
    for name in (b"f", b"l", b"p"):
        remove_entry(folder, name)
    assert os.listdir(tmp_path) == ["target"]


def test_missing(folder: int) -> None:
    with pytest.raises(FileNotFoundError):
        remove_entry(folder, b"nothing")


def test_a_tree(folder: int, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "f").touch()
    for i in range(5):
        for j in range(5):
            (tmp_path / "t" / f"{i}" / f"{j}").mkdir(parents=True)
            (tmp_path / "t" / f"{i}" / f"{j}" / "f").touch()
        (tmp_path / "t" / f"{i}" / "link").symlink_to(tmp_path / "kept")
    with open(os.fsencode(tmp_path) + b"/t/\xff\n", "wb"):
        pass
    remove_entry(folder, b"t")
    assert os.listdir(tmp_path) == ["kept"]
    assert os.listdir(tmp_path / "kept") == ["f"]


def test_deeper_than_paths_can_be(folder: int, tmp_path: Path) -> None:
    name = b"n" * 200
    current = os.dup(folder)
    for _ in range(1200):  # deeper than Python's stack, and 240,000 bytes of path
        os.mkdir(name, dir_fd=current)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=current)
        os.close(current)
        current = below
    os.close(current)
    before = len(os.listdir("/proc/self/fd"))
    remove_entry(folder, name)
    assert os.listdir(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_each_folder_is_listed_once(
    folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(50):
        (tmp_path / "t" / f"{i}").mkdir(parents=True)
    calls = []
    real = os.scandir

    def counted(path: int) -> os._ScandirIterator[str]:
        calls.append(path)
        return real(path)

    monkeypatch.setattr(os, "scandir", counted)
    remove_entry(folder, b"t")
    assert len(calls) == 51


def test_it_pauses_between_batches(
    folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t").mkdir()
    for i in range(1001):
        (tmp_path / "t" / f"{i}").touch()
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    remove_entry(folder, b"t", pause_s=0.5)
    assert slept == [0.5, 0.5]
