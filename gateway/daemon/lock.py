"""`RootLock`: one daemon per root. Builds without a daemon may share the root all the same."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from torana.core.errors import ConflictError


class RootLock:
    """Held from `take` to `release`; the kernel lets go of it when the process dies."""

    def __init__(self, root: Path) -> None:
        self.path = root / "locks" / "toranad.lock"
        self._file: int | None = None

    def take(self) -> None:
        """Take the lock.

        Raises:
            ConflictError: another daemon has it.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = os.read(file, 32).decode("ascii", "replace").strip()
            os.close(file)
            raise ConflictError(
                f"could not lock {self.path}, another instance running?",
                hint=f"process {other} has it" if other else None,
            ) from None
        os.ftruncate(file, 0)
        os.write(file, b"%d\n" % os.getpid())
        self._file = file

    def release(self) -> None:
        """Give it back; the file stays, since removing it would race with the next one."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = None
