"""`Root` and `Place`: paths inside a tree, held by descriptors instead of names.

A path is walked one component at a time with `O_NOFOLLOW`; links are read and expanded here, `..`
goes back to a directory that is already open. So neither a link nor a rename while we walk can
lead out of the root, whoever else writes to the tree.

Spec: fileop reference, section 3.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from torana.core.ops.file.errors import FileActionError, path_error
from torana.core.records import dataclass

MAX_LINKS: Final = 255
OPEN_FOLDER: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OPEN_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(slots=True)
class Place:
    """Where a path leads: `folder` is the deepest directory reached, `tail` what is left.

    With an empty tail the path is the folder itself. A tail of one component is an entry of the
    folder, or a missing one; all of a longer tail is missing. Close it.
    """

    folder: int
    parts: tuple[bytes, ...]
    tail: tuple[bytes, ...]

    @property
    def path(self) -> bytes:
        """The resolved path in the root, absolute."""
        return b"/" + b"/".join((*self.parts, *self.tail))

    def lstat(self) -> os.stat_result | None:
        """Give the entry's status, None when it is missing."""
        if not self.tail:
            return os.fstat(self.folder)
        if len(self.tail) > 1:
            return None
        try:
            return os.lstat(self.tail[0], dir_fd=self.folder)
        except FileNotFoundError:
            return None

    def close(self) -> None:
        if self.folder >= 0:
            os.close(self.folder)
            self.folder = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


class Root:
    """A directory that paths cannot leave. Close it."""

    __slots__ = ("fd",)

    def __init__(self, path: Path | bytes | str) -> None:
        self.fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    @classmethod
    def at(cls, folder: int) -> Root:
        """Make a directory descriptor, which stays the caller's, a root of its own."""
        made = cls.__new__(cls)
        made.fd = os.dup(folder)
        return made

    def find(self, path: bytes, *, follow_last: bool = True) -> Place:
        """Resolve `path`; without `follow_last` the last component stays in the tail unlooked-at.

        Raises:
            FileActionError: a component on the way is no directory, or too many links.
        """
        return _Walk(self.fd, path, follow_last=follow_last).run()

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


class _Walk:
    """State of one resolution."""

    def __init__(self, root: int, path: bytes, *, follow_last: bool) -> None:
        self.path = path
        self.pending = components(path)[::-1]
        self.follow_last = follow_last
        self.folders = [os.dup(root)]
        self.parts: list[bytes] = []
        self.tail: list[bytes] = []
        self.links = 0

    def run(self) -> Place:
        try:
            while self.pending:
                self._step(self.pending.pop())
        except BaseException:
            for folder in self.folders:
                os.close(folder)
            raise
        for folder in self.folders[:-1]:
            os.close(folder)
        return Place(self.folders[-1], tuple(self.parts), tuple(self.tail))

    def _step(self, part: bytes) -> None:
        if part == b"..":
            self._up()
        elif self.tail or (not self.pending and not self.follow_last):
            self.tail.append(part)
        else:
            self._enter(part)

    def _up(self) -> None:
        if self.tail:
            self.tail.pop()
        elif self.parts:
            self.parts.pop()
            os.close(self.folders.pop())

    def _enter(self, part: bytes) -> None:
        try:
            folder = os.open(part, OPEN_FOLDER, dir_fd=self.folders[-1])
        except FileNotFoundError:
            self.tail.append(part)
        except OSError as err:
            if err.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise path_error("open", self._shown(part), err.errno or 0) from err
            self._leave_folder(part)
        else:
            self.folders.append(folder)
            self.parts.append(part)

    def _leave_folder(self, part: bytes) -> None:
        """Go on at something that is no directory: a link, or the end of the path."""
        try:
            target = os.readlink(part, dir_fd=self.folders[-1])
        except OSError as err:
            if err.errno != errno.EINVAL:
                raise path_error("readlink", self._shown(part), err.errno or 0) from err
            if self.pending:
                shown = self._shown(part) + b"/" + self.pending[-1]
                raise path_error("lstat", shown, errno.ENOTDIR) from None
            self.tail.append(part)
            return
        self.links += 1
        if self.links > MAX_LINKS:
            raise FileActionError(f"too many links: {os.fsdecode(self.path)}")
        if target.startswith(b"/"):
            while self.parts:
                self._up()
        self.pending.extend(reversed(components(target)))

    def _shown(self, part: bytes) -> bytes:
        return b"/" + b"/".join((*self.parts, part))


def components(path: bytes) -> list[bytes]:
    """Split a path, dropping what means nothing; `..` stays."""
    return [part for part in path.split(b"/") if part not in (b"", b".")]


def clean(path: str) -> bytes:
    """Give `path` as absolute bytes without `.`, `..` and doubled slashes."""
    done: list[bytes] = []
    for part in components(path.encode("utf-8", "surrogateescape")):
        if part != b"..":
            done.append(part)
        elif done:
            done.pop()
    return b"/" + b"/".join(done)


def open_regular(folder: int, name: bytes | str) -> tuple[int, os.stat_result]:
    """Open a regular file for reading, never following a link or waiting for a pipe.

    Raises:
        OSError: it cannot be opened, or EINVAL when it is no regular file.
    """
    file = os.open(name, OPEN_FILE, dir_fd=folder)
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "not a regular file")
    return file, status


def remove(folder: int, name: bytes | str) -> None:
    """Remove an entry of an open directory, with all below it; links are not followed."""
    try:
        os.unlink(name, dir_fd=folder)
        return
    except OSError as err:
        # Linux says EISDIR for a directory; POSIX and some file systems say EPERM.
        if err.errno not in (errno.EISDIR, errno.EPERM):
            raise
        if not stat.S_ISDIR(os.lstat(name, dir_fd=folder).st_mode):
            raise
    _remove_folder(folder, name)


def _remove_folder(folder: int, name: bytes | str) -> None:
    """Remove depth-first with a stack: trees from outside may be deeper than our recursion."""
    stack: list[tuple[int, bytes | str, int, list[str]]] = []
    try:
        stack.append((folder, name, *_listed(folder, name)))
        while stack:
            above, own_name, own, names = stack[-1]
            if not names:
                os.close(own)
                stack.pop()
                os.rmdir(own_name, dir_fd=above)
                continue
            child = names.pop()
            try:
                os.unlink(child, dir_fd=own)
            except OSError as err:
                if err.errno not in (errno.EISDIR, errno.EPERM):
                    raise
                stack.append((own, child, *_listed(own, child)))
    finally:
        for _, _, own, _ in stack:
            os.close(own)


def _listed(folder: int, name: bytes | str) -> tuple[int, list[str]]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    own = os.open(name, flags, dir_fd=folder)
    try:
        return own, os.listdir(own)
    except BaseException:
        os.close(own)
        raise
