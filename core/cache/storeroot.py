"""The folder of a store, and a little disk space set aside in it.

On a full disk a store can still be pruned: deleting rows makes SQLite's log grow first, and pruning
gives the space up for that. It is set aside again when there is room.
"""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from torana.core.errors import UnwritableError

_NAME: Final = "reserve"
_SIZE_BYTES: Final = 1 << 20


def make_root(root: Path) -> None:
    """Make the folder, and see whether it can be written to.

    Raises:
        UnwritableError: it cannot be.
    """
    hint = "TORANA_ROOT names another folder for Torana's data"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            return
    except FileExistsError as err:
        reason = NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        raise UnwritableError(str(root), reason, hint=hint) from err
    except OSError as err:
        if err.errno == errno.ENOSPC:
            return  # deleting may still be possible, and is what helps
        raise UnwritableError(str(root), err, hint=hint) from err


def make_reserve(root: Path) -> None:
    """Set the space aside unless it is; when there is none, do without."""
    path = root / _NAME
    if path.exists():
        return
    try:
        with open(path, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, _SIZE_BYTES)
    except OSError:
        with suppress(OSError):
            path.unlink()


def free_reserve(root: Path) -> None:
    """Give the space up."""
    with suppress(OSError):
        (root / _NAME).unlink()
