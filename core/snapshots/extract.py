"""Applying a layer: a tar with whiteouts goes on top of a tree.

Every parent directory is opened inside the root, links included, and each entry is made by
descriptor, so that no archive can write outside. A whiteout hides what was there before the layer,
never what the layer itself brings, whatever the order.

Spec: exporters reference, section 8; OCI image specification, Applying Changesets.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Final

from torana.core.errors import CorruptError
from torana.core.snapshots.namespace import is_mapped_user
from torana.core.snapshots.removal import remove_entry
from torana.core.snapshots.rootfs import RootFolder
from torana.core.snapshots.tarstream import (
    BLOCK,
    CHARACTER,
    FIFO,
    FOLDER,
    LINK,
    REGULAR,
    SYMLINK,
    Entry,
    Readable,
    TarStream,
)

log = logging.getLogger(__name__)

Again = Callable[[], AbstractContextManager[Readable]]

_WHITEOUT: Final = b".wh."
_OPAQUE: Final = b".wh..wh..opq"
_META: Final = b".wh..wh."
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FOLDERS: Final = 64
MAX_ENTRIES: Final = 4 << 20  # of one layer: some 360 MB of names; real ones have far fewer
COUNTED_AT: Final = (
    1 << 17
)  # entries after which all are counted: that is 20 times as fast as making
_MAX_SHOWN: Final = 200  # characters of a name in an error
_NODES: Final = {CHARACTER: stat.S_IFCHR, BLOCK: stat.S_IFBLK, FIFO: stat.S_IFIFO}
_OVERLAY: Final = ("trusted.overlay.", "user.overlay.")
# What an archive says that no file system can do; all else is the machine's failure.
_IMPOSSIBLE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
_WHITEOUT_DEVICE: Final = (0, 0)
_NO_XATTR: Final = (errno.ENOTSUP, errno.EPERM, errno.E2BIG, errno.ENOSPC)


def apply_layer(stream: Readable, root: Path, *, again: Again | None = None) -> None:
    """Apply a plain layer tar to the tree at `root`; reads the stream to its end. Blocks.

    `again` opens the same stream anew. With it a layer that turns out to be large is counted before
    more of it is made, so that one with too many entries is refused soon.

    The entry of the root itself is ignored. Where ids or devices cannot be made, as for a user with
    one id only, files belong to that user and devices are left out; a line in the log says so.

    Raises:
        CorruptError: the archive is malformed, has too many entries, links to what is not there, or
            has an entry that cannot be: below a file, with a name that is too long, or of the
            device that overlays take for a deletion.
    """
    with RootFolder(root) as folder:
        _Application(folder).run(TarStream(stream), again)


class _Application:
    """State of one layer: what it has made so far, and directories that are open."""

    def __init__(self, root: RootFolder) -> None:
        self._root = root
        self._open: OrderedDict[bytes, int] = OrderedDict()
        self._made: dict[bytes, set[bytes]] = {}  # names of this layer by directory
        self._folders: dict[bytes, Entry] = {}
        self._is_mapped = is_mapped_user()
        self._told: set[str] = set()

    def run(self, stream: TarStream, again: Again | None) -> None:
        try:
            for number, entry in enumerate(stream, 1):
                if number > MAX_ENTRIES or (
                    number == COUNTED_AT and again is not None and _has_too_many(again)
                ):
                    raise CorruptError(f"layer has more than {MAX_ENTRIES} entries")
                self._entry(stream, entry)
            # What is made in a directory changes its time, so these come last.
            for path, entry in self._folders.items():
                self._folder_times(path, entry)
        finally:
            self._close()

    def _entry(self, stream: TarStream, entry: Entry) -> None:
        above, name = _split(entry.name)
        if not name:
            return
        try:
            if name.startswith(_WHITEOUT):
                self._whiteout(above, name)
                return
            folder = self._parent(above)
            self._note(above, name)
            if entry.kind == FOLDER:
                self._make_folder(folder, above, name, entry)
            else:
                self._folders.pop(_join(above, name), None)
                self._make(stream, folder, above, name, entry)
        except (OSError, OverflowError, ValueError) as err:
            if isinstance(err, OSError) and err.errno not in _IMPOSSIBLE:
                raise
            reason = err.strerror if isinstance(err, OSError) else None
            raise CorruptError(
                f"layer cannot be applied: {(reason or str(err)).lower()}: {_shown(entry.name)}"
            ) from err

    # Directories

    def _parent(self, path: bytes) -> int:
        """Give the open directory `path`, made if missing; it is closed some time later."""
        fd = self._open.get(path)
        if fd is not None:
            self._open.move_to_end(path)
            return fd
        fd = self._root.open(path, make_mode=0o755)
        self._open[path] = fd
        if len(self._open) > _OPEN_FOLDERS:
            os.close(self._open.popitem(last=False)[1])
        return fd

    def _close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def _note(self, above: bytes, name: bytes) -> None:
        while True:
            names = self._made.setdefault(above, set())
            if name in names:
                return
            names.add(name)
            if not above:
                return
            above, name = _split(above)

    def _remove(self, folder: int, above: bytes, name: bytes) -> None:
        """Remove an entry; directories below it that we have open are no longer there."""
        path = _join(above, name)
        try:
            if not stat.S_ISREG(os.lstat(name, dir_fd=folder).st_mode):
                kept = self._open.pop(above, None)
                self._close()
                if kept is not None:
                    self._open[above] = kept
            remove_entry(folder, name)
        except FileNotFoundError:
            return
        if self._made.pop(path, None) is not None:
            inside = path + b"/"
            for known in [k for k in self._made if k.startswith(inside)]:
                del self._made[known]
            for known in [k for k in self._folders if k.startswith(inside)]:
                del self._folders[known]

    def _whiteout(self, above: bytes, name: bytes) -> None:
        try:
            folder = (
                self._root.open(above) if above not in self._open else os.dup(self._open[above])
            )
        except (FileNotFoundError, NotADirectoryError):
            return  # there is nothing to hide
        try:
            if name == _OPAQUE:
                self._clear_inside(folder, above, b".")
                return
            hidden = name[len(_WHITEOUT) :]
            if name.startswith(_META) or hidden in (b"", b".", b".."):
                return
            if hidden not in self._made.get(above, ()):
                self._remove(folder, above, hidden)
            else:
                self._clear_inside(folder, above, hidden)
        finally:
            os.close(folder)

    def _clear(self, folder: int, path: bytes) -> None:
        """Remove what the open directory has but this layer did not bring."""
        made = self._made.get(path, set())
        for text in os.listdir(folder):
            name = os.fsencode(text)
            if name not in made:
                self._remove(folder, path, name)
            else:
                self._clear_inside(folder, path, name)

    def _clear_inside(self, folder: int, above: bytes, name: bytes) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            inner = os.open(name, flags, dir_fd=folder)
        except (NotADirectoryError, FileNotFoundError):
            return
        except OSError as err:
            if err.errno == errno.ELOOP:
                return
            raise
        try:
            self._clear(inner, above if name == b"." else _join(above, name))
        finally:
            os.close(inner)

    # Entries

    def _make_folder(self, folder: int, above: bytes, name: bytes, entry: Entry) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=folder)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(name, dir_fd=folder).st_mode):
                self._remove(folder, above, name)
                os.mkdir(name, 0o700, dir_fd=folder)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        made = os.open(name, flags, dir_fd=folder)
        try:
            self._finish(made, entry, times=False)
        finally:
            os.close(made)
        self._folders[_join(above, name)] = entry

    def _make(
        self, stream: TarStream, folder: int, above: bytes, name: bytes, entry: Entry
    ) -> None:
        try:
            self._create(stream, folder, name, entry)
        except FileExistsError:
            if entry.kind == LINK and self._is_linked(folder, name, entry):
                return
            self._remove(folder, above, name)
            self._create(stream, folder, name, entry)

    def _create(self, stream: TarStream, folder: int, name: bytes, entry: Entry) -> None:
        kind = entry.kind
        if kind == REGULAR:
            file = os.open(name, _CREATE, 0o600, dir_fd=folder)
            try:
                if entry.stored or entry.pieces is not None:
                    stream.copy_to(file, entry)
                self._finish(file, entry)
            finally:
                os.close(file)
        elif kind == LINK:
            self._link(folder, name, entry)
        elif kind == SYMLINK:
            os.symlink(entry.linkname, name, dir_fd=folder)
            self._finish_name(folder, name, entry)
        elif kind in _NODES:
            self._node(folder, name, entry)
        else:
            raise CorruptError(
                f"archive has an entry of unknown type {entry.kind!r}: {_shown(entry.name)}"
            )

    def _link(self, folder: int, name: bytes, entry: Entry) -> None:
        above, last = _split(entry.linkname)
        if not last:
            raise CorruptError(f"archive links to the root: {_shown(entry.name)}")
        source = self._root.open(above)
        try:
            os.link(last, name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
        except PermissionError as err:
            raise CorruptError(f"archive links to a directory: {_shown(entry.linkname)}") from err
        finally:
            os.close(source)

    def _is_linked(self, folder: int, name: bytes, entry: Entry) -> bool:
        """Say whether the entry is a link to its target already, or the target itself."""
        above, last = _split(entry.linkname)
        source = self._root.open(above)
        try:
            target = os.lstat(last, dir_fd=source)
        finally:
            os.close(source)
        return os.path.samestat(target, os.lstat(name, dir_fd=folder))

    def _node(self, folder: int, name: bytes, entry: Entry) -> None:
        if entry.kind == CHARACTER and entry.device == _WHITEOUT_DEVICE:
            raise CorruptError(f"layer has the device 0:0: {_shown(entry.name)}")
        try:
            os.mknod(name, _NODES[entry.kind] | 0o600, os.makedev(*entry.device), dir_fd=folder)
        except PermissionError:
            if not self._is_mapped:
                raise
            self._tell("devices", entry)
            return
        self._finish_name(folder, name, entry)

    def _finish(self, file: int, entry: Entry, *, times: bool = True) -> None:
        try:
            os.fchown(file, entry.uid, entry.gid)
        except OSError as err:
            self._not_mapped(err, entry)
        os.fchmod(file, entry.mode)
        if entry.xattrs:
            self._xattrs(file, entry)
        if times:
            os.utime(file, ns=_times(entry))

    def _finish_name(self, folder: int, name: bytes, entry: Entry) -> None:
        try:
            os.chown(name, entry.uid, entry.gid, dir_fd=folder, follow_symlinks=False)
        except OSError as err:
            self._not_mapped(err, entry)
        if entry.kind != SYMLINK:
            os.chmod(name, entry.mode, dir_fd=folder)
        if entry.xattrs:
            self._xattrs(b"/proc/self/fd/%d/" % folder + name, entry)
        os.utime(name, ns=_times(entry), dir_fd=folder, follow_symlinks=False)

    def _not_mapped(self, err: OSError, entry: Entry) -> None:
        if not self._is_mapped or err.errno not in (errno.EINVAL, errno.EPERM):
            raise err
        self._tell("owners", entry)

    def _tell(self, what: str, entry: Entry) -> None:
        if what not in self._told:
            self._told.add(what)
            log.warning("%s of this layer cannot be kept, first: %r", what, entry.name)

    @staticmethod
    def _xattrs(target: int | bytes, entry: Entry) -> None:
        for name, value in entry.xattrs.items():
            if name.startswith(_OVERLAY):
                continue  # they would steer our own mounts
            try:
                os.setxattr(target, name, value, follow_symlinks=isinstance(target, int))
            except OSError as err:
                if err.errno not in _NO_XATTR:
                    raise

    def _folder_times(self, path: bytes, entry: Entry) -> None:
        above, name = _split(path)
        folder = self._parent(above)
        status = os.lstat(name, dir_fd=folder)
        if stat.S_ISDIR(status.st_mode):
            os.utime(name, ns=_times(entry), dir_fd=folder, follow_symlinks=False)


def _has_too_many(again: Again) -> bool:
    with again() as stream:
        return next(islice(TarStream(stream), MAX_ENTRIES, None), None) is not None


def _shown(name: bytes) -> str:
    text = os.fsdecode(name)
    return f"`{text}`" if len(text) <= _MAX_SHOWN else f"`{text[:_MAX_SHOWN]}...`"


def _times(entry: Entry) -> tuple[int, int]:
    return (entry.mtime_ns if entry.atime_ns is None else entry.atime_ns), entry.mtime_ns


def _split(path: bytes) -> tuple[bytes, bytes]:
    """Give parent and last name of a path inside the root, `.`, `..` and doubled slashes gone."""
    if (
        b"//" in path
        or b"./" in path
        or path.startswith(b"/")
        or path.endswith((b"/", b"/.", b".."))
    ):
        parts: list[bytes] = []
        for part in path.split(b"/"):
            if part == b"..":
                del parts[-1:]
            elif part not in (b"", b"."):
                parts.append(part)
        path = b"/".join(parts)
    elif path == b".":
        return b"", b""
    above, _, name = path.rpartition(b"/")
    return above, name


def _join(above: bytes, name: bytes) -> bytes:
    return above + b"/" + name if above else name
