"""`private_address`: where a unix socket can be for two ends that nobody else may meet."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def private_address() -> Iterator[Path]:
    """Have a name for a socket in a folder that only this user may enter; both go when left.

    The name is of this process only: addresses of sockets are at most 107 bytes long, and a
    temporary folder's path may be longer, so the folder is named by a descriptor.
    """
    folder = tempfile.mkdtemp(prefix="torana.gateway-")  # mode 0700
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{descriptor}/s")
    finally:
        os.close(descriptor)
        shutil.rmtree(folder, ignore_errors=True)
