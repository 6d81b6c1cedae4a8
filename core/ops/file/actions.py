"""mkdir, mkfile, symlink and rm, inside a root.

Nothing depends on the process's umask: modes are set after creation.

Spec: fileop reference, sections 4 to 7.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence

from torana.core.llb.ops import MkDir, MkFile, Rm, Symlink
from torana.core.ops.file.errors import FileActionError, naming, path_error
from torana.core.ops.file.matches import resolve_wildcard
from torana.core.ops.file.owner import Owner
from torana.core.ops.file.root import OPEN_FOLDER, Place, Root, clean, components, remove


def mkdir(action: MkDir, root: Root, owner: Owner | None) -> None:
    """Create a directory; one that exists already, whatever it is, is left as it is."""
    path = clean(action.path)
    with root.find(path) as place:
        if action.make_parents:
            if place.tail and place.lstat() is not None:
                raise path_error("mkdir", path, errno.ENOTDIR)
            make_folders(place, place.tail, action.mode & 0o777, owner, action.timestamp)
        elif len(place.tail) > 1:
            raise path_error("mkdir", path, errno.ENOENT)
        elif place.tail and place.lstat() is None:
            make_folders(place, place.tail, action.mode & 0o777, owner, action.timestamp)


def make_folders(
    place: Place, names: Sequence[bytes], mode: int, owner: Owner | None, timestamp: int
) -> None:
    """Create `names`, each in the one before, and move `place` to the last one.

    All get `mode`, `owner` and `timestamp`; times are set last, since a child changes its parent's.
    """
    opened: list[int] = []
    try:
        for name in names:
            with naming("mkdir", place.path):
                above = opened[-1] if opened else place.folder
                os.mkdir(name, 0o700, dir_fd=above)
                opened.append(os.open(name, OPEN_FOLDER, dir_fd=above))
        for folder in reversed(opened):
            with naming("chmod", place.path):
                if owner is not None:
                    with naming("chown", place.path):
                        os.chown(".", *owner, dir_fd=folder)
                if timestamp >= 0:
                    os.utime(".", ns=(timestamp, timestamp), dir_fd=folder)
                os.chmod(".", mode, dir_fd=folder)
        if opened:
            place.close()
            place.folder = os.dup(opened[-1])
            place.parts += tuple(names)
            place.tail = place.tail[len(names) :]
    finally:
        for folder in opened:
            os.close(folder)


def mkfile(action: MkFile, root: Root, owner: Owner | None) -> None:
    """Create or overwrite a file; an existing one keeps its mode."""
    path = clean(action.path)
    with root.find(path) as place, naming("open", path):
        if not place.tail:
            raise path_error("open", path, errno.EISDIR)
        if len(place.tail) > 1:
            raise path_error("open", path, errno.ENOENT)
        file = _open_target(place, path, action.mode & 0o777)
        try:
            _write(file, action.data)
            if owner is not None:
                with naming("chown", path):
                    os.fchown(file, *owner)
            if action.timestamp >= 0:
                os.utime(file, ns=(action.timestamp, action.timestamp))
        finally:
            os.close(file)


def _open_target(place: Place, path: bytes, mode: int) -> int:
    name = place.tail[0]
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    known = place.lstat()
    if known is None:
        file = os.open(name, flags | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=place.folder)
        os.fchmod(file, mode)
        return file
    # A device node of an image would be the device of the host.
    if not stat.S_ISREG(known.st_mode):
        raise FileActionError(f"open {os.fsdecode(path)}: not a regular file")
    return os.open(name, flags | os.O_TRUNC, dir_fd=place.folder)


def _write(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def symlink(action: Symlink, root: Root, owner: Owner | None) -> None:
    """Create a link; its text is taken as it is."""
    path = clean(action.newpath)
    target = action.oldpath.encode("utf-8", "surrogateescape")
    with root.find(path, follow_last=False) as place, naming("symlink", path):
        if not place.tail:
            raise path_error("symlink", path, errno.EEXIST)
        if len(place.tail) > 1:
            raise path_error("symlink", path, errno.ENOENT)
        name = place.tail[0]
        os.symlink(target, name, dir_fd=place.folder)
        if owner is not None:
            with naming("chown", path):
                os.chown(name, *owner, dir_fd=place.folder, follow_symlinks=False)
        if action.timestamp >= 0:
            times = (action.timestamp, action.timestamp)
            os.utime(name, ns=times, dir_fd=place.folder, follow_symlinks=False)


def rm(action: Rm, root: Root) -> None:
    """Remove an entry with all below it; a link itself, not what it leads to."""
    path = clean(action.path)
    if action.allow_wildcard:
        for match in resolve_wildcard(root, os.fsdecode(path), follow_links=False):
            _rm(root, match, allow_missing=action.allow_not_found)
    else:
        _rm(root, path, allow_missing=action.allow_not_found)


def _rm(root: Root, path: bytes, *, allow_missing: bool) -> None:
    if not components(path):
        raise FileActionError("rmPath: invalid empty path")
    with root.find(path, follow_last=False) as place:
        if not allow_missing:
            # The test follows links: one that leads nowhere counts as missing.
            with root.find(path) as followed:
                if followed.lstat() is None:
                    raise path_error("stat", path, errno.ENOENT)
        if len(place.tail) != 1:
            return
        with naming("remove", path):
            try:
                remove(place.folder, place.tail[0])
            except FileNotFoundError:
                return
