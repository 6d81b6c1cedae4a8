"""`ByteLocks`: any number of locks, each a byte of one file, so that nothing is left to clean up.

A lock has one holder, or any number that share it. They are open file description locks (fcntl(2)):
a lock belongs to the descriptor it was taken by, so that holders exclude each other within a
process, too. The kernel ends it with the process, however that dies. Local file systems only.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import struct
from pathlib import Path
from typing import Final

_FLOCK: Final = "hhqqi0q"  # struct flock: type, whence, start, length, pid
_FIRST_WAIT_S: Final = 0.01
_LONGEST_WAIT_S: Final = 0.2


def lock_number(name: str) -> int:
    """Give the number of the lock called `name`; equal ones by chance only wait for each other."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 2


class ByteLock:
    """A lock that is held; ends with `close`."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def close(self) -> None:
        """Let go; again it does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class ByteLocks:
    """The locks in the file `path`, by number (62 bits)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def try_lock(self, number: int, *, is_shared: bool = False) -> ByteLock | None:
        """Take the lock, alone or with others that share it; None when it is not to be had."""
        descriptor = self._open()
        kind = fcntl.F_RDLCK if is_shared else fcntl.F_WRLCK
        wanted = struct.pack(_FLOCK, kind, os.SEEK_SET, number, 1, 0)
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, wanted)
        except OSError as err:
            os.close(descriptor)
            if err.errno in (errno.EAGAIN, errno.EACCES):
                return None
            raise
        return ByteLock(descriptor)

    async def lock(self, number: int, *, is_shared: bool = False) -> ByteLock:
        """Take the lock, waiting until it is to be had; cancelling leaves nothing behind."""
        wait_s = _FIRST_WAIT_S
        while True:
            lock = self.try_lock(number, is_shared=is_shared)
            if lock is not None:
                return lock
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 1.5, _LONGEST_WAIT_S)

    def is_locked(self, number: int) -> bool:
        """Say whether anybody has the lock."""
        descriptor = self._open()
        try:
            wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, number, 1, 0)
            found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, wanted)
        finally:
            os.close(descriptor)
        kind: int = struct.unpack(_FLOCK, found)[0]
        return kind != fcntl.F_UNLCK
