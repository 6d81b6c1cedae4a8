"""Paths inside a root: symbolic links and `..` never lead out of it.

`resolve` is for trees that belong to one op at a time: nobody swaps a link between its answer and
its use. `RootFolder` gives descriptors instead of names and is safe whoever else writes: by
openat2(2) where the kernel has it, else by opening the resolved components one after the other,
where a link that has been swapped in is an error.

Spec: fileop reference, section 3.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

_MAX_LINKS: Final = 255
_SYS_OPENAT2: Final = 437
_RESOLVE: Final = 0x10 | 0x02  # RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS
_FOLDER: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def resolve(root: bytes, path: bytes, *, follow_last: bool = True) -> bytes:
    """Give the host's path of `path` inside `root`, all links resolved.

    Missing components are kept as they are, so that the result may not exist. An absolute link
    starts again at the root, and `..` at the root stays there.

    Raises:
        OSError: ELOOP after 255 links.
    """

    def read(parts: list[bytes]) -> bytes | None:
        try:
            return os.readlink(join(root, parts))
        except OSError as err:
            if err.errno not in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
                raise
            return None

    return join(root, resolve_links(path, read, follow_last=follow_last))


def resolve_links(
    path: bytes, read: Callable[[list[bytes]], bytes | None], *, follow_last: bool = True
) -> list[bytes]:
    """Give the components that `path` leads to; `read` gives a link's text, None for all else.

    Raises:
        OSError: ELOOP after 255 links.
    """
    pending = _parts(path)
    pending.reverse()
    done: list[bytes] = []
    links = 0
    while pending:
        part = pending.pop()
        if part == b"..":
            if done:
                done.pop()
            continue
        done.append(part)
        if not pending and not follow_last:
            break
        target = read(done)
        if target is None:
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(errno.ELOOP, "too many links", os.fsdecode(path))
        done.pop()
        if target.startswith(b"/"):
            done.clear()
        pending.extend(reversed(_parts(target)))
    return done


def join(root: bytes, parts: list[bytes]) -> bytes:
    """Put a host path together."""
    tail = b"/".join(parts)
    return root + b"/" + tail if tail else root


def relative(root: bytes, full: bytes) -> bytes:
    """Give `full` as an absolute path inside `root`."""
    return full[len(root) :] or b"/"


def clean(path: str) -> str:
    """Give an absolute path without `.`, `..` and doubled slashes, confined to `/`."""
    done: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if done:
                done.pop()
        elif part not in ("", "."):
            done.append(part)
    return "/" + "/".join(done)


def is_directory(path: bytes) -> bool:
    """Say whether a path is a directory itself, links not followed."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _parts(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part not in (b"", b".")]


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


_libc: Any = None


class RootFolder:
    """A directory whose paths cannot leave it. Close it."""

    def __init__(self, path: Path | bytes, *, use_openat2: bool = True) -> None:
        self.fd = os.open(path, _FOLDER)
        self._use_openat2 = use_openat2

    def open(self, path: bytes, *, make_mode: int | None = None) -> int:
        """Open the directory `path`, all links followed inside the root; the caller closes it.

        With `make_mode`, what is missing on the way is made.

        Raises:
            OSError: it is missing, no directory, or there are too many links.
        """
        if self._use_openat2:
            try:
                return self._openat2(path)
            except OSError as err:
                if err.errno == errno.ENOSYS:
                    self._use_openat2 = False
                elif err.errno not in (errno.ENOENT, errno.EAGAIN, errno.EPERM):
                    raise
        return self._walk(path, make_mode)

    def _openat2(self, path: bytes) -> int:
        global _libc
        if _libc is None:
            _libc = ctypes.CDLL(None, use_errno=True)
        how = _OpenHow(_FOLDER, 0, _RESOLVE)
        size = ctypes.sizeof(how)
        fd: int = _libc.syscall(_SYS_OPENAT2, self.fd, path or b".", ctypes.byref(how), size)
        if fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), os.fsdecode(path))
        return fd

    def _walk(self, path: bytes, make_mode: int | None) -> int:
        root = b"/proc/self/fd/%d" % self.fd
        parts = _parts(resolve(root, path)[len(root) :])
        current = os.dup(self.fd)
        for part in parts:
            try:
                try:
                    below = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=current)
                except FileNotFoundError:
                    if make_mode is None:
                        raise
                    os.mkdir(part, 0o700, dir_fd=current)
                    os.chmod(part, make_mode, dir_fd=current)  # mkdir minds the umask
                    below = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=current)
            finally:
                os.close(current)
            current = below
        return current

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()
