"""`ExecutorFolder`: where containers keep their files while they run, in memory only.

`<root>/executor/` has one folder for each process that uses the root, locked by it, with a tmpfs in
it: bundles, hosts files and secrets never touch a disk. What a dead process left is removed when
the next one starts; containers that it could not take along are killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from torana.core.ops.exec import groups
from torana.core.snapshots import mounts

_LOCK: Final = "lock"
_MEMORY: Final = "run"


class ExecutorFolder:
    """A folder of this process; usable until `close`."""

    def __init__(self, root: Path) -> None:
        """Make the folder below `<root>/executor` and clear away what dead processes left."""
        base = root / "executor"
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.base = base
        reconcile(base)
        self._token = secrets.token_hex(4)
        self._own = base / f"{os.getpid()}-{self._token}"
        # A folder whose name does not start with a number is not looked at by others, until its
        # lock is held.
        draft = base / f"new-{self._own.name}"
        draft.mkdir(mode=0o700)
        self._lock = os.open(draft / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        draft.rename(self._own)
        self._memory = self._own / _MEMORY
        self._memory.mkdir(mode=0o700)
        flags = mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_NOEXEC
        mounts.mount("tmpfs", str(self._memory), "tmpfs", flags, "mode=0700")

    @contextlib.contextmanager
    def container(self) -> Iterator[tuple[str, Path]]:
        """Give the id of a new container and its empty folder, which goes when left."""
        # 25 characters, as BuildKit's ids; the first ones tell the cgroups of a dead process.
        name = (self._token + secrets.token_hex(9))[:25]
        directory = self._memory / name
        directory.mkdir(mode=0o700)
        try:
            yield name, directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def close(self) -> None:
        """Remove the folder; nothing may run any more."""
        mounts.unmount(str(self._memory))
        shutil.rmtree(self._own, ignore_errors=True)
        os.close(self._lock)


def reconcile(base: Path) -> list[str]:
    """Remove folders of dead processes, kill what still runs out of them, and give their names."""
    return _each_abandoned(base, _remove)


def abandoned(base: Path) -> list[str]:
    """Give the names of folders of dead processes."""
    return _each_abandoned(base, lambda path: None)


def _each_abandoned(base: Path, act: Callable[[str], None]) -> list[str]:
    """Do `act` with each folder of a dead process, locked, and give their names."""
    found: list[str] = []
    if not base.is_dir():
        return found
    with os.scandir(base) as listing:
        entries = list(listing)
    for entry in entries:
        is_draft = entry.name.startswith("new-")
        if not entry.is_dir(follow_symlinks=False) or not (is_draft or entry.name[:1].isdigit()):
            continue
        if is_draft and _is_alive(entry.name):
            continue
        lock = _try_lock(Path(entry.path, _LOCK))
        if lock is None:
            continue
        try:
            act(entry.path)
            found.append(entry.name)
        finally:
            os.close(lock)
    return found


def _remove(path: str) -> None:
    _kill_users(path)
    groups.remove_all(path.rpartition("-")[2])
    mounts.unmount(os.path.join(path, _MEMORY))
    shutil.rmtree(path, ignore_errors=True)


def _is_alive(name: str) -> bool:
    return os.path.exists(f"/proc/{name.split('-')[1]}")


def _try_lock(path: Path) -> int | None:
    """Give the descriptor of a lock that nobody holds; the lock file is made if missing."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _kill_users(directory: str) -> None:
    """Kill processes whose arguments name a container's folder below `directory`.

    Runtimes are inits of their own pid namespaces, so that their containers go with them.
    """
    mark = os.fsencode(os.path.join(directory, _MEMORY)) + b"/"
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            arguments = Path("/proc", name, "cmdline").read_bytes()
        except OSError:
            continue
        if any(part.removeprefix(b"--root=").startswith(mark) for part in arguments.split(b"\0")):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(name), signal.SIGKILL)
