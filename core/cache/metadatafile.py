"""The list of stats that stands for files whose content is not sent (`local.metadatatransfer`).

Each entry is a little-endian length in 4 bytes and a serialised `fsutil.types.Stat`, whose fields
are written in the order of their numbers.

Spec: reference of the session, FileSync.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Final

from torana.core.cache.localscan import LocalScan

METADATA_NAME: Final = b".fsutil-metadata"

# Type bits of Go's os.FileMode, which is what travels.
_GO_TYPES: Final = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 0,  # is sent as an empty file
}
_GO_BITS: Final = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))


def metadata_list(scan: LocalScan) -> bytes:
    """Give the file for everything that `scan` sends."""
    return b"".join(
        len(entry).to_bytes(4, "little") + entry
        for path, entry in _stats(scan)
        if path != METADATA_NAME
    )


def _stats(scan: LocalScan) -> Iterator[tuple[bytes, bytes]]:
    links: dict[tuple[int, int], bytes] = {}
    for path, status in scan.entries():
        is_link = stat.S_ISLNK(status.st_mode)
        link = scan.target(path) if is_link else b""
        size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
        if status.st_nlink > 1 and not (is_link or stat.S_ISDIR(status.st_mode)):
            first = links.setdefault((status.st_dev, status.st_ino), path)
            if first != path:
                link, size = first, 0
        yield path, _stat(scan.full(path), path, status, link, size)


def _stat(full: bytes, path: bytes, status: os.stat_result, link: bytes, size: int) -> bytes:
    kind = stat.S_IFMT(status.st_mode)
    mode = _GO_TYPES.get(kind, 0) | status.st_mode & 0o777
    mode |= sum(go for bit, go in _GO_BITS if status.st_mode & bit)
    out = _text(1, path) + _number(2, mode) + _number(5, size)
    out += _number(6, status.st_mtime_ns) + _text(7, link)
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        out += _number(8, os.major(status.st_rdev)) + _number(9, os.minor(status.st_rdev))
    return out + _xattrs(full)


def _xattrs(full: bytes) -> bytes:
    try:
        names = sorted(os.listxattr(full, follow_symlinks=False))
    except OSError:
        return b""
    out = b""
    for name in names:
        if name.startswith(("trusted.overlay.", "user.overlay.")):
            continue
        value = os.getxattr(full, name, follow_symlinks=False)
        out += _text(10, _text(1, os.fsencode(name)) + _text(2, value))
    return out


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value & (1 << 64) - 1) if value else b""


def _text(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value if value else b""


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
