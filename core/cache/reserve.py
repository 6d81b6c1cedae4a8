"""A little disk space set aside, so that a store on a full disk can still be pruned.

Deleting rows makes SQLite's log grow first. Pruning gives the space up before it begins, and sets
it aside again when there is room.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_NAME: Final = "reserve"
_SIZE_BYTES: Final = 1 << 20


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
