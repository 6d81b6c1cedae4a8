"""Folders that belong to a process: locked by it, and removed by anybody once it is gone."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def make_locked_folder(root: Path) -> tuple[Path, int]:
    """Make a folder below `root`; it is the caller's until the given descriptor is closed."""
    root.mkdir(parents=True, exist_ok=True)
    guard = os.open(root, _FOLDER)
    try:
        fcntl.flock(guard, fcntl.LOCK_SH)  # nobody looks between making and locking
        folder = root / secrets.token_hex(6)
        folder.mkdir(mode=0o700)
        lock = os.open(folder, _FOLDER)
        fcntl.flock(lock, fcntl.LOCK_EX)
    finally:
        os.close(guard)
    return folder, lock


def abandoned_folders(root: Path) -> list[Path]:
    """Give the folders below `root` whose process is gone."""
    if not root.is_dir():
        return []
    found = []
    guard = os.open(root, _FOLDER)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX)
        for name in os.listdir(guard):
            if _is_free(root / name):
                found.append(root / name)
    finally:
        os.close(guard)
    return found


def remove_abandoned_folders(root: Path) -> int:
    """Remove what dead processes left below `root`; gives the number of folders."""
    folders = abandoned_folders(root)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return len(folders)


def _is_free(folder: Path) -> bool:
    try:
        lock = os.open(folder, _FOLDER)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
