"""The digest of one entry: a file with its content, a link, a device, a directory's own metadata.

Times and names do not count. Digests go into other digests as text.

Spec: contenthash reference, section 1.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from torana.core.oci.digest import Digest

_CHUNK: Final = 1 << 20
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CAPABILITY: Final = "security.capability"
# Those of overlayfs are never part of the tree that it shows.
_UNCOUNTED: Final = ("security.", "system.", "trusted.overlay.", "user.overlay.")
_TYPEFLAGS: Final = {
    stat.S_IFDIR: b"5",
    stat.S_IFLNK: b"2",
    stat.S_IFCHR: b"3",
    stat.S_IFBLK: b"4",
    stat.S_IFIFO: b"6",
}

Xattrs = Sequence[tuple[bytes, bytes]]
"""Counted extended attributes, sorted by name."""


def entry_head(
    mode: int,
    *,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
    xattrs: Xattrs = (),
) -> bytes:
    """Give the bytes that stand before the content; `mode` with the bits of the file type."""
    kind = stat.S_IFMT(mode)
    head = b"namemode%duid%dgid%dsize%dtypeflag%slinkname%sunamegnamedevmajor%ddevminor%d" % (
        0o777 if kind == stat.S_IFLNK else stat.S_IMODE(mode),
        uid,
        gid,
        size if kind == stat.S_IFREG else 0,
        _TYPEFLAGS.get(kind, b"0"),
        link,
        *device,
    )
    return head + b"".join(name + value for name, value in xattrs) if xattrs else head


def entry_digest(head: bytes, content: Iterable[bytes] = ()) -> Digest:
    """Digest an entry from its parts."""
    digest = hashlib.sha256(head)
    for chunk in content:
        digest.update(chunk)
    return Digest("sha256:" + digest.hexdigest())


def digest_on_disk(full: bytes, status: os.stat_result, *, is_local: bool = False) -> Digest:
    """Digest the entry at `full`. Device numbers count as 0, and owners of a client's files.

    Raises:
        OSError: it is gone, or has become something else.
    """
    kind = stat.S_IFMT(status.st_mode)
    uid, gid = (0, 0) if is_local else (status.st_uid, status.st_gid)
    if kind != stat.S_IFREG:
        link = os.readlink(full) if kind == stat.S_IFLNK else b""
        return entry_digest(
            entry_head(status.st_mode, uid=uid, gid=gid, link=link, xattrs=_xattrs_of(full))
        )
    file = os.open(full, _OPEN)
    try:
        size = status.st_size
        head = entry_head(status.st_mode, uid=uid, gid=gid, size=size, xattrs=_xattrs_of(file))
        digest = hashlib.sha256(head)
        while size:
            chunk = os.read(file, _CHUNK)
            digest.update(chunk)
            if len(chunk) < _CHUNK:
                break
        return Digest("sha256:" + digest.hexdigest())
    finally:
        os.close(file)


def counts(name: str) -> bool:
    """Say whether an extended attribute of that name is part of a digest."""
    return name == _CAPABILITY or not name.startswith(_UNCOUNTED)


def _xattrs_of(place: bytes | int) -> Xattrs:
    follow = isinstance(place, int)
    try:
        names = os.listxattr(place, follow_symlinks=follow)
    except OSError:
        return ()
    read: Callable[[str], bytes] = lambda name: os.getxattr(place, name, follow_symlinks=follow)  # noqa: E731
    return [(os.fsencode(n), read(n)) for n in sorted(filter(counts, names), key=os.fsencode)]
