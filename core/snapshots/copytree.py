"""Copies of files and trees that keep everything: links, holes, attributes, devices, times."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import Final

_FICLONE: Final = 0x40049409
_CHUNK: Final = 1 << 30
_UNSUPPORTED: Final = (errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.EINVAL, errno.E2BIG)


def copy_data(source: int, target: int, size: int, *, sparse: bool) -> None:
    """Copy the bytes of an open file; shares blocks where the file system can."""
    if size == 0:
        return
    try:
        fcntl.ioctl(target, _FICLONE, source)
        return
    except OSError:
        pass
    if sparse:
        _copy_holes(source, target, size)
    else:
        _copy_range(source, target, 0, size)


def _copy_holes(source: int, target: int, size: int) -> None:
    offset = 0
    while offset < size:
        try:
            start = os.lseek(source, offset, os.SEEK_DATA)
        except OSError as err:
            if err.errno == errno.ENXIO:
                break
            raise
        end = os.lseek(source, start, os.SEEK_HOLE)
        _copy_range(source, target, start, min(end, size) - start)
        offset = end
    os.ftruncate(target, size)


def _copy_range(source: int, target: int, offset: int, size: int) -> None:
    end = offset + size
    try:
        while offset < end:
            count = os.copy_file_range(source, target, min(_CHUNK, end - offset), offset, offset)
            if count == 0:
                return
            offset += count
        return
    except OSError as err:
        if err.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    os.lseek(target, offset, os.SEEK_SET)
    while offset < end:
        count = os.sendfile(target, source, offset, min(_CHUNK, end - offset))
        if count == 0:
            return
        offset += count


def copy_file(source: bytes, target: bytes, status: os.stat_result) -> None:
    """Copy a regular file's bytes to a new file; metadata is the caller's."""
    with open(source, "rb", buffering=0) as reader:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            is_sparse = status.st_blocks * 512 < status.st_size
            copy_data(reader.fileno(), descriptor, status.st_size, sparse=is_sparse)
        finally:
            os.close(descriptor)


def copy_xattrs(source: bytes, target: bytes) -> None:
    """Copy extended attributes, as far as both sides and our rights allow."""
    try:
        names = os.listxattr(source, follow_symlinks=False)
    except OSError as err:
        if err.errno in _UNSUPPORTED:
            return
        raise
    for name in names:
        if name.startswith(("trusted.overlay.", "user.overlay.", "user.fuseoverlayfs.")):
            continue
        try:
            value = os.getxattr(source, name, follow_symlinks=False)
            os.setxattr(target, name, value, follow_symlinks=False)
        except OSError as err:
            if err.errno not in _UNSUPPORTED and err.errno != errno.ENODATA:
                raise


def make_node(target: bytes, status: os.stat_result, source: bytes) -> None:
    """Recreate whatever `source` is, regular files left empty and directories bare."""
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFDIR:
        os.mkdir(target, 0o700)
    elif kind == stat.S_IFLNK:
        os.symlink(os.readlink(source), target)
    elif kind == stat.S_IFREG:
        copy_file(source, target, status)
    else:
        os.mknod(target, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev)


def copy_metadata(source: bytes, target: bytes, status: os.stat_result) -> None:
    """Give `target` the owner, mode, attributes and times of `source`."""
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    copy_xattrs(source, target)  # before the mode: a read-only file takes none from its owner
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(target, stat.S_IMODE(status.st_mode))
    times = (status.st_atime_ns, status.st_mtime_ns)
    os.utime(target, ns=times, follow_symlinks=False)


def copy_tree(source: bytes, target: bytes) -> None:
    """Copy the content of directory `source` into the existing directory `target`.

    Hard links within the tree stay links. Iterative: any depth that the kernel's path limit allows.
    """
    links: dict[tuple[int, int], bytes] = {}
    folders: list[tuple[bytes, bytes, os.stat_result]] = [(source, target, os.lstat(source))]
    position = 0
    while position < len(folders):
        folder, into, _ = folders[position]
        position += 1
        with os.scandir(folder) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                made = into + b"/" + entry.name
                key = (status.st_dev, status.st_ino)
                is_folder = stat.S_ISDIR(status.st_mode)
                if not is_folder and status.st_nlink > 1:
                    known = links.setdefault(key, made)
                    if known is not made:
                        os.link(known, made, follow_symlinks=False)
                        continue
                make_node(made, status, entry.path)
                if is_folder:
                    folders.append((entry.path, made, status))
                else:
                    copy_metadata(entry.path, made, status)
    for folder, into, status in reversed(folders):
        copy_metadata(folder, into, status)
