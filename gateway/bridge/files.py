"""Reading files, directories and metadata inside a tree that is shown at a directory. Blocking.

Errors have the text of the system's own, which clients of the protocol look at.
"""

from __future__ import annotations

import fnmatch
import os
import stat
from pathlib import Path

from torana.core.errors import NotFoundError, UserError
from torana.core.snapshots.rootfs import resolve
from torana.gateway.client.client import Stat


def read(root: Path, path: str, offset: int, length: int | None) -> bytes:
    """Read a file, or `length` bytes of it from `offset`; links are followed inside `root`.

    Raises:
        NotFoundError: no such file.
        UserError: it is no regular file.
    """
    full = resolve(os.fsencode(root), os.fsencode(path))
    try:
        # Not blocking: the tree may have a pipe there.
        descriptor = os.open(full, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"open {path}: no such file or directory") from None
    except OSError as err:
        raise UserError(f"read {path}: {(err.strerror or str(err)).lower()}") from err
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UserError(f"{path} is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            file.seek(offset)
            return file.read(-1 if length is None else length)
    finally:
        os.close(descriptor)


def listing(root: Path, path: str, include: str | None) -> list[Stat]:
    """List a directory, sorted by name; `include` is a pattern for names.

    Raises:
        NotFoundError: no such directory.
        UserError: it is none.
    """
    full = resolve(os.fsencode(root), os.fsencode(path))
    try:
        names = sorted(os.listdir(full))
    except FileNotFoundError:
        raise NotFoundError(f"open {path}: no such file or directory") from None
    except NotADirectoryError:
        raise UserError(f"readdir {path}: not a directory") from None
    return [
        _status(full + b"/" + name, os.fsdecode(name))
        for name in names
        if not include or fnmatch.fnmatchcase(os.fsdecode(name), include)
    ]


def status(root: Path, path: str) -> Stat:
    """Give metadata of one path; links are followed inside `root`, that of the path itself, too.

    Raises:
        NotFoundError: no such path.
    """
    full = resolve(os.fsencode(root), os.fsencode(path))
    try:
        return _status(full, os.fsdecode(os.path.basename(full)))
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"stat {path}: no such file or directory") from None


def _status(full: bytes, shown: str) -> Stat:
    found = os.lstat(full)
    is_link = stat.S_ISLNK(found.st_mode)
    is_device = stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode)
    return Stat(
        path=shown,
        mode=found.st_mode,
        uid=found.st_uid,
        gid=found.st_gid,
        size=found.st_size,
        mtime_ns=found.st_mtime_ns,
        linkname=os.fsdecode(os.readlink(full)) if is_link else "",
        devmajor=os.major(found.st_rdev) if is_device else 0,
        devminor=os.minor(found.st_rdev) if is_device else 0,
    )
