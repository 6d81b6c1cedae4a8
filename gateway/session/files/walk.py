"""`FolderTree`: what of a folder is sent, in the order of the file protocol.

An entry is sent when an include pattern matches it (without any: always) and no exclude pattern
does. A folder that is not sent itself is still looked into where something below may be, and comes
before the first entry that is sent from it.

Spec: `NewFilterFS`, `WithHardlinkReset` and `mkstat` of fsutil.
"""

from __future__ import annotations

import errno
import os
import stat as posix
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Self

from torana.core.cache.followpaths import include_patterns
from torana.core.cache.treefilter import TreeFilter
from torana.core.records import dataclass
from torana.core.snapshots.rootfs import RootFolder
from torana.gateway.protocol import filemode
from torana.gateway.protocol.files_pb2 import Stat

ChangeStat = Callable[[Stat], None]
_GONE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)  # the last: a socket
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What is asked of a folder; empty patterns select everything."""

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    follow_paths: Sequence[str] = ()


EVERYTHING: Final = Selection()


def owned_by_root(stat: Stat) -> None:
    """Set the owner to 0:0, as clients of BuildKit do for what they send to a build."""
    stat.uid = stat.gid = 0


class FolderTree:
    """A folder to send; blocking. Close it."""

    def __init__(
        self, root: Path, selection: Selection = EVERYTHING, change: ChangeStat | None = None
    ) -> None:
        """Open a folder.

        Raises:
            OSError: it cannot be opened.
            UserError: a pattern is malformed.
        """
        include = selection.include
        if selection.follow_paths:
            include = include_patterns(os.fsencode(root), include, selection.follow_paths)
        self._filter = TreeFilter(include, selection.exclude)
        self._change = change
        self._root = RootFolder(root)
        self._links: dict[tuple[int, int], bytes] = {}
        self._parent: tuple[bytes, int] | None = None  # of the entry that was listed last

    def close(self) -> None:
        if self._parent is not None:
            os.close(self._parent[1])
            self._parent = None
        self._root.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def entries(self) -> Iterator[Stat]:
        """Give the entries, parents first, siblings in the order of their names' bytes.

        Raises:
            OSError: a folder or an entry that is to be sent cannot be read.
        """
        stack: list[Iterator[_Found]] = [self._children(b"")]
        unsent: list[_Found | None] = []  # the folder of each level but the first, until it is sent
        while stack:
            try:
                found = next(stack[-1], None)
            except PermissionError:
                if not unsent or unsent[-1] is None:
                    raise
                found = None  # nothing of it was asked for by name
            if found is None:
                stack.pop()
                if unsent:
                    unsent.pop()
                continue
            if found.is_sent:
                for level, parent in enumerate(unsent):
                    if parent is not None:
                        unsent[level] = None
                        yield self._stat(parent)
                yield self._stat(found)
            if found.may_hold:
                stack.append(self._children(found.path))
                unsent.append(None if found.is_sent else found)

    def open(self, path: bytes) -> int | None:
        """Give a descriptor of a listed file, the caller closes it; None where it is gone.

        Raises:
            OSError: it cannot be read.
        """
        folder, _, name = path.rpartition(b"/")
        try:
            parent = self._root.open(folder)
            try:
                fd = os.open(name, _READ, dir_fd=parent)
            finally:
                os.close(parent)
        except OSError as err:
            if err.errno in _GONE:
                return None
            raise
        if not posix.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return None
        return fd

    def _children(self, folder: bytes) -> Iterator[_Found]:
        try:
            parent = self._root.open(folder)
        except FileNotFoundError:
            return  # gone since it was listed
        try:
            fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
        finally:
            os.close(parent)
        try:
            with os.scandir(fd) as entries:
                status = {os.fsencode(e.name): _lstat(e) for e in entries}
        finally:
            os.close(fd)
        for name in sorted(status):
            found = status[name]
            if found is not None:
                path = folder + b"/" + name if folder else name
                verdict = self._filter.verdict(path)
                may_hold = verdict.may_hold and posix.S_ISDIR(found.st_mode)
                yield _Found(path, found, verdict.is_sent, may_hold)

    def _stat(self, found: _Found) -> Stat:
        path, status = found.path, found.status
        full = self._full(path)
        stat = Stat(
            path=path,
            mode=filemode.to_go(status.st_mode) & ~filemode.SOCKET,
            uid=status.st_uid,
            gid=status.st_gid,
            modTime=status.st_mtime_ns,
        )
        kind = posix.S_IFMT(status.st_mode)
        if kind != posix.S_IFDIR:
            stat.size = status.st_size
            if kind in (posix.S_IFBLK, posix.S_IFCHR):
                stat.devmajor = os.major(status.st_rdev)
                stat.devminor = os.minor(status.st_rdev)
            if kind == posix.S_IFLNK:
                stat.linkname = os.readlink(full)
            elif status.st_nlink > 1:
                stat.linkname = self._links.setdefault((status.st_dev, status.st_ino), path)
                if stat.linkname == path:
                    stat.ClearField("linkname")
        _read_xattrs(full, stat)
        if self._change is not None:
            self._change(stat)
        return stat

    def _full(self, path: bytes) -> bytes:
        """Give a name for an entry that links on the way to it cannot change."""
        folder, _, name = path.rpartition(b"/")
        if self._parent is None or self._parent[0] != folder:
            opened = self._root.open(folder)
            if self._parent is not None:
                os.close(self._parent[1])
            self._parent = (folder, opened)
        return b"/proc/self/fd/%d/%s" % (self._parent[1], name)


@dataclass(frozen=True, slots=True)
class _Found:
    path: bytes
    status: os.stat_result
    is_sent: bool
    may_hold: bool  # a folder to look into


def _lstat(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None


def _read_xattrs(full: bytes, stat: Stat) -> None:
    try:
        names = os.listxattr(full, follow_symlinks=False)
    except OSError:
        return
    for name in names:
        if name.startswith("com.apple.") or not name.isprintable():
            continue
        try:
            stat.xattrs[name] = os.getxattr(full, name, follow_symlinks=False)
        except OSError:
            continue
