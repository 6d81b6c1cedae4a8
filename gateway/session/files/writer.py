"""`TreeWriter`: the entries of a transfer, put below a folder and never anywhere else.

Names are single components used with descriptors of their folders, which are opened inside the
root; the last component of a path is never followed. A file grows under a temporary name and is
renamed when it is whole. What has been listed but not asked for yet (links to files, times of
folders) waits for the end.

Blocking; one thread at a time.
"""

from __future__ import annotations

import os
import secrets
import stat as posix
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import field
from pathlib import Path
from typing import Final, Self

from torana.core.errors import UnsupportedError
from torana.core.records import dataclass
from torana.core.snapshots.removal import remove_entry
from torana.core.snapshots.rootfs import RootFolder
from torana.gateway.protocol import filemode
from torana.gateway.protocol.files_pb2 import Stat
from torana.gateway.session.files.order import ProtocolError, shown

_TEMPORARY: Final = b".torana-"
_CACHED_FOLDERS: Final = 16
_MAX_OPEN: Final = 256
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NEVER: Final = ("trusted.overlay.", "user.overlay.")  # would change what an overlay shows


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOptions:
    """How a transfer changes a folder.

    `keeps_others`: what is there and not listed stays. `compares`: files whose size, time, mode
    and owner agree are not asked for. `owner` replaces all owners.
    """

    keeps_others: bool = False
    compares: bool = True
    owner: tuple[int, int] | None = None


SYNC: Final = WriteOptions()


@dataclass(slots=True)
class _Folder:
    path: bytes
    names: list[bytes] = field(default_factory=list)  # there before, in reverse order


@dataclass(slots=True)
class _File:
    folder: bytes
    temporary: bytes
    fd: int


class TreeWriter:
    """Writes one transfer into an existing folder."""

    def __init__(self, root: Path, options: WriteOptions) -> None:
        self._path_of_root = root
        self._options = options
        self._root: RootFolder | None = None
        self._cache: OrderedDict[bytes, int] = OrderedDict()
        self._stack: list[_Folder] = []
        self._folders: list[Stat] = []
        self._links: list[Stat] = []
        self._wanted: dict[int, Stat] = {}
        self._files: dict[int, _File] = {}

    def open(self) -> None:
        """Open the folder; before anything else."""
        self._root = RootFolder(self._path_of_root)
        self._stack.append(_Folder(b"", self._names(b"")))

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove what is not whole, and close everything."""
        for file in self._files.values():
            os.close(file.fd)
            with suppress(OSError):
                os.unlink(file.temporary, dir_fd=self._fd(file.folder))
        self._files.clear()
        for fd in self._cache.values():
            os.close(fd)
        self._cache.clear()
        if self._root is not None:
            self._root.close()

    @property
    def is_complete(self) -> bool:
        """Whether all that was asked for has come."""
        return not self._wanted

    def add(self, number: int, stat: Stat) -> bool:
        """Take the next entry, already checked; says whether its content is needed."""
        if self._options.owner is not None:
            stat.uid, stat.gid = self._options.owner
        parent, _, name = stat.path.rpartition(b"/")
        while self._stack[-1].path != parent:
            self._leave(self._stack.pop())
        old = self._old(self._stack[-1], name)
        kind = stat.mode & filemode.TYPE
        if kind == filemode.DIR:
            self._add_folder(stat, old)
            return False
        if old is not None and posix.S_ISDIR(old.st_mode):
            self._remove(parent, name)
            old = None
        if kind == 0 and stat.linkname:
            self._links.append(stat)
            return False
        if old is not None and self._options.compares and self._is_same(stat, old):
            return False
        if kind == 0:
            self._wanted[number] = stat
            return True
        self._add_special(stat)
        return False

    def write(self, number: int, data: bytes) -> None:
        """Take a piece of a file.

        Raises:
            ProtocolError: it was not asked for, or too many files come at once.
        """
        file = self._files.get(number) or self._start(number)
        view = memoryview(data)
        while view:
            view = view[os.write(file.fd, view) :]

    def finish_file(self, number: int) -> None:
        """Give a file that is whole its name."""
        file = self._files.get(number) or self._start(number)
        stat = self._wanted[number]
        self._set_metadata(stat, file.fd)
        self._rename(file.folder, file.temporary, stat.path)
        del self._wanted[number], self._files[number]
        os.close(file.fd)

    def finish(self) -> None:
        """Remove what was not listed, make links, set what is to be set on folders."""
        while self._stack:
            self._leave(self._stack.pop())
        for stat in self._links:
            self._link(stat)
        for stat in reversed(self._folders):
            folder = self._fd(stat.path)
            fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
            try:
                if not self._is_same(stat, os.fstat(fd), also_time=True) or stat.xattrs:
                    self._set_metadata(stat, fd)
            finally:
                os.close(fd)

    def write_whole(self, name: bytes, data: bytes) -> None:
        """Write a file of our own at the top."""
        temporary = _temporary()
        fd = os.open(temporary, _CREATE, 0o644, dir_fd=self._fd(b""))
        try:
            with open(fd, "wb") as file:
                file.write(data)
            self._rename(b"", temporary, name)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=self._fd(b""))
            raise

    # Folders

    def _fd(self, folder: bytes) -> int:
        """Give a descriptor of a folder that was listed; it stays ours."""
        fd = self._cache.get(folder)
        if fd is None:
            assert self._root is not None
            fd = self._root.open(folder)
            self._cache[folder] = fd
            if len(self._cache) > _CACHED_FOLDERS:
                os.close(self._cache.popitem(last=False)[1])
        else:
            self._cache.move_to_end(folder)
        return fd

    def _names(self, folder: bytes) -> list[bytes]:
        if self._options.keeps_others:
            return []
        fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._fd(folder))
        try:
            return sorted((os.fsencode(name) for name in os.listdir(fd)), reverse=True)
        finally:
            os.close(fd)

    def _old(self, folder: _Folder, name: bytes) -> os.stat_result | None:
        """Give what is at `name` now; what sorts before it and was not listed is removed."""
        if not self._options.keeps_others:
            while folder.names and folder.names[-1] < name:
                self._remove(folder.path, folder.names.pop())
            if not folder.names or folder.names[-1] != name:
                return None
            folder.names.pop()
        try:
            return os.lstat(name, dir_fd=self._fd(folder.path))
        except FileNotFoundError:
            return None

    def _leave(self, folder: _Folder) -> None:
        while folder.names:
            self._remove(folder.path, folder.names.pop())

    def _remove(self, folder: bytes, name: bytes) -> None:
        path = folder + b"/" + name if folder else name
        below = [known for known in self._cache if known == path or known.startswith(path + b"/")]
        for known in below:
            os.close(self._cache.pop(known))
        remove_entry(self._fd(folder), name)

    def _add_folder(self, stat: Stat, old: os.stat_result | None) -> None:
        parent, _, name = stat.path.rpartition(b"/")
        names: list[bytes] = []
        if old is not None and posix.S_ISDIR(old.st_mode):
            # Ours while the transfer lasts; an unprivileged writer needs the rights.
            if old.st_mode & 0o700 != 0o700:
                os.chmod(self._path(parent, name), posix.S_IMODE(old.st_mode) | 0o700)
            names = self._names(stat.path)
        else:
            if old is not None:
                self._remove(parent, name)
            os.mkdir(name, 0o700, dir_fd=self._fd(parent))
        self._folders.append(stat)
        self._stack.append(_Folder(stat.path, names))

    # Entries

    def _is_same(self, stat: Stat, old: os.stat_result, *, also_time: bool = False) -> bool:
        mode = filemode.to_go(old.st_mode)
        is_link = posix.S_ISLNK(old.st_mode)
        same = mode & filemode.TYPE == stat.mode & filemode.TYPE
        same = same and (is_link or mode == stat.mode & ~filemode.SOCKET)
        same = same and (old.st_uid, old.st_gid) == (stat.uid, stat.gid)
        if not posix.S_ISDIR(old.st_mode):
            same = same and old.st_size == stat.size
        if also_time or not posix.S_ISDIR(old.st_mode):
            same = same and old.st_mtime_ns == stat.modTime
        if stat.mode & filemode.DEVICE:
            same = same and old.st_rdev == _device(stat)
        if same and is_link:
            parent, _, name = stat.path.rpartition(b"/")
            same = os.readlink(name, dir_fd=self._fd(parent)) == stat.linkname
        return same

    def _add_special(self, stat: Stat) -> None:
        folder = stat.path.rpartition(b"/")[0]
        with self._named(folder) as (fd, temporary):
            kind = stat.mode & filemode.TYPE
            if kind == filemode.SYMLINK:
                os.symlink(stat.linkname, temporary, dir_fd=fd)
            else:
                try:
                    mode = filemode.from_go(stat.mode)
                    os.mknod(temporary, mode, _device(stat), dir_fd=fd)
                except ValueError:
                    raise ProtocolError(f"unknown type of file: {shown(stat.path)}") from None
                except PermissionError as err:
                    raise UnsupportedError(f"cannot make a device: {shown(stat.path)}") from err
            self._set_metadata(stat, self._path(folder, temporary))
            self._rename(folder, temporary, stat.path)

    def _link(self, stat: Stat) -> None:
        folder, _, name = stat.path.rpartition(b"/")
        source, _, source_name = stat.linkname.rpartition(b"/")
        if self._is_link_of(folder, name, source, source_name):
            return
        with self._named(folder) as (_, temporary):
            os.link(
                self._path(source, source_name),
                self._path(folder, temporary),
                follow_symlinks=False,
            )
            self._rename(folder, temporary, stat.path)

    def _is_link_of(self, folder: bytes, name: bytes, source: bytes, source_name: bytes) -> bool:
        wanted = os.lstat(source_name, dir_fd=self._fd(source))
        try:
            old = os.lstat(name, dir_fd=self._fd(folder))
        except FileNotFoundError:
            return False
        return (wanted.st_dev, wanted.st_ino) == (old.st_dev, old.st_ino)

    def _start(self, number: int) -> _File:
        stat = self._wanted.get(number)
        if stat is None:
            raise ProtocolError(f"invalid file request {number}")
        if len(self._files) >= _MAX_OPEN:
            raise ProtocolError("too many files are sent at once")
        folder, temporary = stat.path.rpartition(b"/")[0], _temporary()
        fd = os.open(temporary, _CREATE, 0o600, dir_fd=self._fd(folder))
        self._files[number] = file = _File(folder, temporary, fd)
        return file

    def _set_metadata(self, stat: Stat, target: int | bytes) -> None:
        """Set xattrs, owner, mode and times on a descriptor, or on a path without following it."""
        follow = not isinstance(target, bytes)  # of a descriptor: itself
        for key, content in stat.xattrs.items():
            if not key.startswith(_NEVER):
                with suppress(OSError):  # as BuildKit: not every filesystem has them all
                    os.setxattr(target, key, content, 0, follow_symlinks=follow)
        os.chown(target, stat.uid, stat.gid, follow_symlinks=follow)
        if stat.mode & filemode.TYPE != filemode.SYMLINK:
            os.chmod(target, filemode.permissions(stat.mode))
        os.utime(target, ns=(stat.modTime, stat.modTime), follow_symlinks=follow)

    # Names

    def _path(self, folder: bytes, name: bytes) -> bytes:
        return b"/proc/self/fd/%d/%s" % (self._fd(folder), name)

    def _rename(self, folder: bytes, temporary: bytes, path: bytes) -> None:
        fd = self._fd(folder)
        os.rename(temporary, path.rpartition(b"/")[2], src_dir_fd=fd, dst_dir_fd=fd)

    @contextmanager
    def _named(self, folder: bytes) -> Iterator[tuple[int, bytes]]:
        """Give a folder and a new name in it, which is gone if the block fails."""
        temporary = _temporary()
        try:
            yield self._fd(folder), temporary
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=self._fd(folder))
            raise


def _temporary() -> bytes:
    return _TEMPORARY + secrets.token_hex(8).encode()


def _device(stat: Stat) -> int:
    if not stat.mode & filemode.DEVICE:
        return 0
    if not (0 <= stat.devmajor < 1 << 12 and 0 <= stat.devminor < 1 << 20):
        raise ProtocolError(f"no such device number: {shown(stat.path)}")
    return os.makedev(stat.devmajor, stat.devminor)
