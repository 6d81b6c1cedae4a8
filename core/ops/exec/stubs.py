"""Mount points that a tree lacks: made before a run, removed after it, times of parents restored.

Spec: reference of exec, section 2.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import field
from pathlib import Path
from typing import Final

from torana.core.records import dataclass
from torana.core.snapshots.rootfs import resolve

RUNTIME_FOLDERS: Final = ("/dev", "/proc", "/sys")


@dataclass(frozen=True, slots=True, kw_only=True)
class MountPoint:
    """A place for something to be mounted at; `removes_parents` goes for those that it lacks."""

    destination: str
    is_directory: bool
    removes_parents: bool = False
    mode: int = 0o755  # of the directory itself: runc gives it to a tmpfs


@dataclass(slots=True)
class Stubs:
    """What was made in `root`; `remove` undoes it as far as the run left it alone."""

    root: bytes
    _made: list[bytes] = field(default_factory=list)  # parents first
    _times: dict[bytes, _Times] = field(default_factory=dict)

    def add(self, point: MountPoint) -> None:
        """Make sure that something can be mounted at `point`.

        Parents are made as well; without `removes_parents` they stay. What is there already, of
        whatever kind, is left as it is.
        """
        path = resolve(self.root, os.fsencode(point.destination))
        if os.path.lexists(path):
            return
        missing = [path]
        while not os.path.lexists(parent := os.path.dirname(missing[-1])):
            missing.append(parent)
        top = os.path.dirname(missing[-1])
        before = _Times.of(top)
        for parent in reversed(missing[1:]):
            _make_directory(parent)
        if point.is_directory:
            _make_directory(path, point.mode)
        else:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
        if len(missing) > 1 and not point.removes_parents:
            self._made.append(path)
            return
        self._made += reversed(missing)
        # Several stubs in one directory: its first times are the ones to go back to.
        earlier = self._times.get(top)
        if earlier is not None and earlier.after_ns == before.mtime_ns:
            before.mtime_ns, before.atime_ns = earlier.mtime_ns, earlier.atime_ns
        before.after_ns = os.lstat(top).st_mtime_ns
        self._times[top] = before

    def remove(self) -> None:
        """Remove what is still empty; what a run replaced or filled stays."""
        for path in reversed(self._made):
            # The run may have put a link in the way of it.
            inside = path[len(self.root) :]
            if resolve(self.root, inside, follow_last=False) != path:
                continue
            parent = os.path.dirname(path)
            with contextlib.suppress(OSError):
                times = _Times.of(parent)
                if _remove_empty(path):
                    self._restore(parent, times)

    def _restore(self, parent: bytes, now: _Times) -> None:
        before = self._times.get(parent)
        if before is not None and now.mtime_ns == before.after_ns:
            now.mtime_ns, now.atime_ns = before.mtime_ns, before.atime_ns
            # The next stub in the same directory must know these times for ours.
            before.after_ns = now.mtime_ns
        os.utime(parent, ns=(now.atime_ns, now.mtime_ns))


@dataclass(slots=True)
class _Times:
    atime_ns: int
    mtime_ns: int
    after_ns: int = 0  # modification time when the stub had been made

    @classmethod
    def of(cls, path: bytes) -> _Times:
        found = os.lstat(path)
        return cls(found.st_atime_ns, found.st_mtime_ns)


def _make_directory(path: bytes, mode: int = 0o755) -> None:
    os.mkdir(path, mode)
    os.chmod(path, mode)  # whatever our umask


def _remove_empty(path: bytes) -> bool:
    found = os.lstat(path)
    if stat.S_ISDIR(found.st_mode):
        os.rmdir(path)
        return True
    if stat.S_ISREG(found.st_mode) and found.st_size == 0:
        os.unlink(path)
        return True
    return False


def make_directories(root: Path, path: str, uid: int, gid: int) -> None:
    """Make a working directory inside the tree; all that is made belongs to the user."""
    full = resolve(os.fsencode(root), os.fsencode(path))
    missing = []
    while not os.path.lexists(full):
        missing.append(full)
        full = os.path.dirname(full)
    for directory in reversed(missing):
        _make_directory(directory)
        if uid or gid:
            os.chown(directory, uid, gid)


def make_runtime_folders(root: Path) -> None:
    """Make the folders over which every runtime mounts something."""
    for folder in RUNTIME_FOLDERS:
        path = os.fsencode(root) + os.fsencode(folder)
        if not os.path.lexists(path):
            _make_directory(path)


def make_point(tree: Path, point: MountPoint) -> None:
    """Make a mount point in a tree that is mounted itself; it stays there.

    Where links are on the way to it, they mean another place: then it is the runtime's.
    """
    top = os.fsencode(tree)
    inside = os.fsencode(point.destination)
    if resolve(top, inside) == top + inside:
        Stubs(top).add(point)


@contextlib.contextmanager
def mount_points(root: Path, wanted: Iterable[MountPoint]) -> Iterator[None]:
    """Have mount points while entered."""
    stubs = Stubs(os.fsencode(root))
    try:
        for point in wanted:
            stubs.add(point)
        yield
    finally:
        stubs.remove()
