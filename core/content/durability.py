"""Bringing written data to the disk, once for many files."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path


def sync_filesystem(path: Path) -> None:
    """Write back the file system that holds `path` (syncfs(2)); cheaper than a sync per file."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)
