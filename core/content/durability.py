"""Bringing written data to the disk, once for many files."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

# From so many files on, writing back all of the file system is cheaper than a sync for each.
_MANY: Final = 256


def sync_filesystem(path: Path) -> None:
    """Write back the file system that holds `path` (syncfs(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)


def sync_files(folder: Path, names: Iterable[str]) -> None:
    """Write back files of one folder and their names; what is gone by now is no error.

    Few files are synced one by one, so that nobody waits for what others wrote to the disk.
    """
    names = list(names)
    if not names:
        return
    if len(names) >= _MANY:
        sync_filesystem(folder)
        return
    parent = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in names:
            try:
                descriptor = os.open(name, os.O_RDONLY, dir_fd=parent)
            except FileNotFoundError:
                continue
            try:
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
        os.fsync(parent)
    finally:
        os.close(parent)
