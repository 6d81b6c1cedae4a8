from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from torana.core.snapshots.allocation import spread_folders

GET_FLAGS, SET_FLAGS, TOP_FOLDER = 0x80086601, 0x40086602, 0x20000


def flags(folder: Path) -> int:
    with opened(folder) as descriptor:
        found: int = struct.unpack("l", fcntl.ioctl(descriptor, GET_FLAGS, bytes(8)))[0]
        return found


@contextmanager
def opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def test_marks_a_folder_once_and_keeps_its_other_flags(tmp_path: Path) -> None:
    try:
        before = flags(tmp_path)
        with opened(tmp_path) as descriptor:
            fcntl.ioctl(descriptor, SET_FLAGS, struct.pack("l", before | TOP_FOLDER))
            fcntl.ioctl(descriptor, SET_FLAGS, struct.pack("l", before))
    except OSError:
        pytest.skip("the file system knows no such flag")
    spread_folders(tmp_path)
    assert flags(tmp_path) == before | TOP_FOLDER
    spread_folders(tmp_path)
    assert flags(tmp_path) == before | TOP_FOLDER


def test_a_file_system_without_the_flag_is_no_error() -> None:
    spread_folders(Path("/proc"))
