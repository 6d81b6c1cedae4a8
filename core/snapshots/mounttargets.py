"""Directories to mount at, one folder per process, and what dead processes left of them.

The folder is locked by its process rather than named after it: process ids mean nothing in another
pid namespace, and removing a directory unmounts what another mount namespace has on it.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from torana.core.snapshots.mounts import LINKS_PREFIX
from torana.core.snapshots.removal import remove_entry


class MountTargets:
    """Makes empty directories below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder: Path | None = None
        self._lock = -1
        self._owner = 0
        self._numbers = itertools.count()
        root.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def new(self) -> Iterator[Path]:
        """Give a directory while entered; nothing may be mounted at it any more when left."""
        target = self._own() / str(next(self._numbers))
        target.mkdir()
        try:
            yield target
        finally:
            with suppress(FileNotFoundError):
                target.rmdir()

    def _own(self) -> Path:
        if self._folder is None or self._owner != os.getpid():
            folder = self._root / secrets.token_hex(6)
            root = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(root, fcntl.LOCK_SH)  # no sweep between making and locking
                folder.mkdir(mode=0o700)
                self._lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                fcntl.flock(self._lock, fcntl.LOCK_EX)
            finally:
                os.close(root)
            self._folder, self._owner = folder, os.getpid()
        return self._folder

    def close(self) -> None:
        """Remove the folder of this process, unless something is mounted there still."""
        if self._folder is not None and self._owner == os.getpid():
            with suppress(OSError):
                self._folder.rmdir()
            os.close(self._lock)
            self._folder = None

    def sweep(self) -> None:
        """Remove the folders of processes that are gone."""
        root = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(root, fcntl.LOCK_EX)
            for name in os.listdir(root):
                self._sweep_folder(self._root / name)
        finally:
            os.close(root)

    def _sweep_folder(self, folder: Path) -> None:
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for name in os.listdir(lock):
                with suppress(OSError):
                    if name.startswith(LINKS_PREFIX):
                        remove_entry(lock, os.fsencode(name))
                    else:
                        os.rmdir(name, dir_fd=lock)  # never deeper: it might be mounted
            with suppress(OSError):
                folder.rmdir()
        except BlockingIOError:
            return
        finally:
            os.close(lock)
