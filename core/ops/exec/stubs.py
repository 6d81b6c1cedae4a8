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

from torana.core.records import dataclass
from torana.core.snapshots.rootfs import resolve


@dataclass(slots=True)
class Stubs:
    """What was made in `root`; `remove` undoes it as far as the run left it alone."""

    root: bytes
    _made: list[bytes] = field(default_factory=list)  # parents first
    _times: dict[bytes, _Times] = field(default_factory=dict)

    def add(self, destination: str, *, is_directory: bool, removes_parents: bool) -> None:
        """Make sure that something can be mounted at `destination`.

        Parents are made as well; without `removes_parents` they stay. What is there already, of
        whatever kind, is left as it is.
        """
        path = resolve(self.root, os.fsencode(destination))
        if os.path.lexists(path):
            return
        missing = [path]
        while not os.path.lexists(parent := os.path.dirname(missing[-1])):
            missing.append(parent)
        top = os.path.dirname(missing[-1])
        before = _Times.of(top)
        for parent in reversed(missing[1:]):
            _make_directory(parent)
        if is_directory:
            _make_directory(path)
        else:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
        if len(missing) > 1 and not removes_parents:
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


def _make_directory(path: bytes) -> None:
    os.mkdir(path, 0o755)
    os.chmod(path, 0o755)  # whatever our umask


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


@contextlib.contextmanager
def mount_points(
    root: Path, wanted: Iterable[tuple[str, bool, bool]], *, removes_parents: bool
) -> Iterator[None]:
    """Have mount points while entered.

    `wanted` has destination, whether it is a directory, and whether its parents are removed in any
    case; those of others are with `removes_parents`.
    """
    stubs = Stubs(os.fsencode(root))
    try:
        for destination, is_directory, always in wanted:
            stubs.add(
                destination, is_directory=is_directory, removes_parents=removes_parents or always
            )
        yield
    finally:
        stubs.remove()
