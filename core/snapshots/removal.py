"""Removing trees by descriptors: any depth, no link followed, nothing outside touched."""

from __future__ import annotations

import os
import stat
import time
from typing import Final

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BATCH: Final = 500


def remove_entry(folder: int, name: bytes, *, pause_s: float = 0.0) -> None:
    """Remove whatever `name` is in the open directory `folder`.

    Sleeps `pause_s` after each 500 entries: deletions in the background are not to slow down those
    who create files meanwhile (ext4 looks at every inode freed within the last minutes).

    Raises:
        FileNotFoundError: there is none.
    """
    try:
        os.unlink(name, dir_fd=folder)
        return
    except IsADirectoryError:
        pass
    except PermissionError:  # what some file systems say of a directory
        if not stat.S_ISDIR(os.lstat(name, dir_fd=folder).st_mode):
            raise
    _Removal(pause_s).folder(folder, name)


class _Removal:
    """One directory is open at a time, so that no depth runs out of descriptors or stack."""

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s
        self._count = 0

    def folder(self, above: int, name: bytes) -> None:
        current = os.open(name, _FOLDER, dir_fd=above)
        try:
            path: list[bytes] = []
            pending = [self._empty(current)]
            while True:
                if pending[-1]:
                    below = pending[-1].pop()
                    current = _move(current, below)
                    path.append(below)
                    pending.append(self._empty(current))
                elif path:
                    pending.pop()
                    current = _move(current, b"..")
                    os.rmdir(path.pop(), dir_fd=current)
                else:
                    break
        finally:
            os.close(current)
        os.rmdir(name, dir_fd=above)

    def _empty(self, folder: int) -> list[bytes]:
        """Unlink what is no directory; gives the directories that are left."""
        found: list[bytes] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    found.append(os.fsencode(entry.name))
                else:
                    os.unlink(entry.name, dir_fd=folder)
                self._count += 1
                if self._pause_s and self._count % _BATCH == 0:
                    time.sleep(self._pause_s)
        return found


def _move(current: int, name: bytes) -> int:
    other = os.open(name, _FOLDER, dir_fd=current)
    os.close(current)
    return other
