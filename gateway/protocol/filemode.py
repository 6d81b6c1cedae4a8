"""Go's `FileMode` bits, which `fsutil.types.Stat` carries, to and from `st_mode`."""

from __future__ import annotations

import stat
from typing import Final

DIR: Final = 1 << 31
SYMLINK: Final = 1 << 27
DEVICE: Final = 1 << 26
NAMED_PIPE: Final = 1 << 25
SOCKET: Final = 1 << 24
SETUID: Final = 1 << 23
SETGID: Final = 1 << 22
CHAR_DEVICE: Final = 1 << 21
STICKY: Final = 1 << 20
IRREGULAR: Final = 1 << 19
TYPE: Final = DIR | SYMLINK | DEVICE | NAMED_PIPE | SOCKET | CHAR_DEVICE | IRREGULAR

_TYPES: Final = {
    stat.S_IFREG: 0,
    stat.S_IFDIR: DIR,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFBLK: DEVICE,
    stat.S_IFCHR: DEVICE | CHAR_DEVICE,
    stat.S_IFIFO: NAMED_PIPE,
    stat.S_IFSOCK: SOCKET,
}
_BACK: Final = {go: posix for posix, go in _TYPES.items()}
_SPECIAL: Final = ((stat.S_ISUID, SETUID), (stat.S_ISGID, SETGID), (stat.S_ISVTX, STICKY))


def to_go(mode: int) -> int:
    """Turn an `st_mode` into Go's bits."""
    bits = (mode & 0o777) | _TYPES.get(stat.S_IFMT(mode), IRREGULAR)
    for posix, go in _SPECIAL:
        if mode & posix:
            bits |= go
    return bits


def from_go(bits: int) -> int:
    """Turn Go's bits into an `st_mode`.

    Raises:
        ValueError: the type bits fit no type of file.
    """
    kind = _BACK.get(bits & TYPE)
    if kind is None:
        raise ValueError(f"no type of file: {bits:#x}")
    return kind | permissions(bits)


def permissions(bits: int) -> int:
    """Give the permission bits, with set-id and sticky, of Go's bits."""
    mode = bits & 0o777
    for posix, go in _SPECIAL:
        if bits & go:
            mode |= posix
    return mode
