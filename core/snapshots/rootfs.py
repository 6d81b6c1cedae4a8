"""Paths inside a root: symbolic links and `..` never lead out of it.

Trees that are worked on belong to one op at a time, so that walking the path component by component
is safe: nobody swaps a link in between.

Spec: fileop reference, section 3.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

_MAX_LINKS: Final = 255


def resolve(root: bytes, path: bytes, *, follow_last: bool = True) -> bytes:
    """Give the host's path of `path` inside `root`, all links resolved.

    Missing components are kept as they are, so that the result may not exist. An absolute link
    starts again at the root, and `..` at the root stays there.

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
        if not pending and not follow_last:
            done.append(part)
            break
        full = join(root, done, part)
        try:
            target = os.readlink(full)
        except OSError as err:
            if err.errno not in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
                raise
            done.append(part)
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(errno.ELOOP, "too many links", os.fsdecode(path))
        if target.startswith(b"/"):
            done.clear()
        pending.extend(reversed(_parts(target)))
    return join(root, done)


def join(root: bytes, parts: list[bytes], last: bytes = b"") -> bytes:
    """Put a host path together."""
    tail = b"/".join([*parts, last] if last else parts)
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
