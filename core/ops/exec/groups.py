"""Control groups that containers of a dead process left: found by the start of their names."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_MOUNT: Final = Path("/sys/fs/cgroup")
_TOKEN: Final = re.compile(r"[0-9a-f]{8}\Z")
_TRIES: Final = 200
_PAUSE_S: Final = 0.01


def remove_all(token: str, top: Path = _MOUNT) -> None:
    """Remove the groups of containers whose ids start with `token`, in all hierarchies.

    Their processes have been killed; a group in which one still ends is waited for, some seconds.
    """
    if not _TOKEN.match(token):
        return
    for group in list(_named(top, token)):
        for folder, _, _ in os.walk(group, topdown=False):
            _remove(folder)


def _named(top: Path, token: str) -> Iterator[str]:
    for folder, names, _ in os.walk(top):
        # systemd's way has the parent before the id: `PARENT-ID.scope`.
        found = [name for name in names if name.startswith(token) or f"-{token}" in name]
        names[:] = [name for name in names if name not in found]
        yield from (os.path.join(folder, name) for name in found)


def _remove(folder: str) -> None:
    for _ in range(_TRIES):
        try:
            os.rmdir(folder)
        except OSError as err:
            if err.errno == errno.EBUSY:
                time.sleep(_PAUSE_S)
                continue
        return
