"""Archives that copy extracts: tars, plain or compressed, recognised by content.

Every path of the archive is resolved inside the target, links included, before anything is made.

Spec: fileop reference, section 8.6.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import stat
import tarfile
import zlib
from collections.abc import Callable
from typing import IO, Final

from torana.core.content.compression import open_compressed
from torana.core.ops.file.actions import make_folders
from torana.core.ops.file.errors import FileActionError
from torana.core.ops.file.owner import Owner
from torana.core.ops.file.root import OPEN_FOLDER, Place, Root, open_regular, remove
from torana.core.snapshots.namespace import is_mapped_user

log = logging.getLogger(__name__)

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_XATTR: Final = "SCHILY.xattr."
_CHUNK: Final = 1 << 20


def unpack(source: Place, make_target: Callable[[], Place], owner: Owner | None) -> bool:
    """Extract the file at `source` if it is an archive; False, and nothing made, if it is not.

    Raises:
        FileActionError: the archive is damaged after its first header, or an entry cannot be made.
    """
    try:
        file, _ = open_regular(source.folder, source.tail[0])
    except OSError:
        return False
    with os.fdopen(file, "rb") as raw:
        archive = _open(raw)
        if archive is None:
            if not _begins_as_tar(raw):
                return False
            raise FileActionError(f"failed to unpack {os.fsdecode(source.path)}: damaged gzip data")
        with make_target() as target, Root.at(target.folder) as root:
            try:
                _Extraction(root, owner).run(archive)
            except (OSError, EOFError, ValueError, tarfile.TarError) as err:
                shown = os.fsdecode(source.path)
                raise FileActionError(f"failed to unpack {shown}: {_reason(err)}") from err
        return True


def _reason(err: BaseException) -> str:
    number = err.errno if isinstance(err, OSError) else None
    return os.strerror(number).lower() if number else str(err) or type(err).__name__


def _open(raw: IO[bytes]) -> tarfile.TarFile | None:
    """Open a stream whose first header can be read, else give None."""
    try:
        archive = tarfile.open(fileobj=_Pieces(open_compressed(raw)), mode="r|")
        return archive if getattr(archive, "firstmember", None) is not None else None
    except Exception:  # decompressors raise classes of their own for what is not theirs
        return None


def _begins_as_tar(raw: IO[bytes]) -> bool:
    """Say whether gzip data starts with a tar header after all.

    The fast decompressor gives nothing of a short stream whose end is damaged.
    """
    raw.seek(0)
    try:
        block = zlib.decompressobj(wbits=31).decompress(raw.read(64 << 10), tarfile.BLOCKSIZE)
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (zlib.error, tarfile.TarError):
        return False
    return True


class _Pieces(io.RawIOBase):
    """A stream in whatever pieces come, so that damage shows where it is and not a block before."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)

    def read(self, size: int = -1, /) -> bytes:
        return self._read(size)


class _Extraction:
    """Entries of one archive going to one root."""

    def __init__(self, root: Root, owner: Owner | None) -> None:
        self.root = root
        self.owner = owner
        self.folders: list[tuple[bytes, tarfile.TarInfo]] = []
        self._told: set[str] = set()

    def run(self, archive: tarfile.TarFile) -> None:
        for entry in archive:
            self._entry(archive, entry)
        # Children change their directory's time, so directories come last, inner ones first.
        for path, entry in reversed(self.folders):
            with self.root.find(path) as place:
                if not place.tail:
                    times = _times(entry)
                    os.utime(".", ns=times, dir_fd=place.folder)

    def _entry(self, archive: tarfile.TarFile, entry: tarfile.TarInfo) -> None:
        path = entry.name.encode("utf-8", "surrogateescape")
        with self.root.find(path, follow_last=False) as place:
            if len(place.tail) > 1:
                make_folders(place, place.tail[:-1], 0o755, self.owner, -1)
            if entry.isdir():
                self._folder(place, entry)
                return
            if not place.tail:
                return  # a file cannot take the place of the root
            self._make_room(place)
            self._make(archive, entry, place)

    def _folder(self, place: Place, entry: tarfile.TarInfo) -> None:
        if place.tail:
            status = place.lstat()
            if status is not None and not stat.S_ISDIR(status.st_mode):
                remove(place.folder, place.tail[0])
                status = None
            if status is None:
                os.mkdir(place.tail[0], 0o700, dir_fd=place.folder)
            folder = os.open(place.tail[0], OPEN_FOLDER, dir_fd=place.folder)
        else:
            folder = os.dup(place.folder)
        try:
            self._own(entry, ".", folder)
            _set_xattrs(f"/proc/self/fd/{folder}", entry, follow=True)
            os.chmod(".", entry.mode & 0o7777, dir_fd=folder)
        finally:
            os.close(folder)
        self.folders.append((place.path, entry))

    @staticmethod
    def _make_room(place: Place) -> None:
        try:
            remove(place.folder, place.tail[0])
        except FileNotFoundError:
            return

    def _make(self, archive: tarfile.TarFile, entry: tarfile.TarInfo, place: Place) -> None:
        name = place.tail[0]
        if entry.islnk():
            self._link(entry, place)
            return
        if entry.issym():
            text = entry.linkname.encode("utf-8", "surrogateescape")
            os.symlink(text, name, dir_fd=place.folder)
        elif entry.isreg():
            self._regular(archive, entry, place)
            return
        elif entry.isfifo() or entry.ischr() or entry.isblk():
            kind = stat.S_IFIFO if entry.isfifo() else stat.S_IFBLK
            kind = stat.S_IFCHR if entry.ischr() else kind
            number = os.makedev(entry.devmajor, entry.devminor) if not entry.isfifo() else 0
            try:
                os.mknod(name, kind | 0o600, number, dir_fd=place.folder)
            except PermissionError:
                if not is_mapped_user():
                    raise
                self._tell("devices", entry)
                return
        else:
            raise FileActionError(f"unsupported entry in archive: {entry.name}")
        self._own(entry, name, place.folder)
        shown = os.fsencode(f"/proc/self/fd/{place.folder}/") + name
        _set_xattrs(shown, entry, follow=False)
        if not entry.issym():
            os.chmod(name, entry.mode & 0o7777, dir_fd=place.folder)
        os.utime(name, ns=_times(entry), dir_fd=place.folder, follow_symlinks=False)

    def _link(self, entry: tarfile.TarInfo, place: Place) -> None:
        path = entry.linkname.encode("utf-8", "surrogateescape")
        with self.root.find(path, follow_last=False) as known:
            if len(known.tail) != 1 or known.lstat() is None:
                raise FileActionError(f"archive links to a missing entry: {entry.linkname}")
            os.link(
                known.tail[0],
                place.tail[0],
                src_dir_fd=known.folder,
                dst_dir_fd=place.folder,
                follow_symlinks=False,
            )

    def _regular(self, archive: tarfile.TarFile, entry: tarfile.TarInfo, place: Place) -> None:
        data = archive.extractfile(entry)
        assert data is not None
        file = os.open(place.tail[0], _CREATE, 0o600, dir_fd=place.folder)
        with os.fdopen(file, "wb", buffering=0) as writer:
            while chunk := data.read(_CHUNK):
                rest = memoryview(chunk)
                while rest:
                    rest = rest[os.write(file, rest) :]
            if writer.tell() != entry.size:
                raise EOFError("unexpected end of data")
            self._own(entry, file)
            _set_xattrs(file, entry, follow=True)
            os.fchmod(file, entry.mode & 0o7777)
            os.utime(file, ns=_times(entry))

    def _own(
        self, entry: tarfile.TarInfo, target: int | str | bytes, folder: int | None = None
    ) -> None:
        """Give a file its owner; the archive's own may be none of those that this user has."""
        owner = self.owner if self.owner is not None else (entry.uid, entry.gid)
        try:
            if isinstance(target, int):
                os.fchown(target, *owner)
            else:
                os.chown(target, *owner, dir_fd=folder, follow_symlinks=False)
        except OSError as err:
            is_foreign = err.errno in (errno.EINVAL, errno.EPERM) and is_mapped_user()
            if self.owner is not None or not is_foreign:
                raise
            self._tell("owners", entry)

    def _tell(self, what: str, entry: tarfile.TarInfo) -> None:
        if what not in self._told:
            self._told.add(what)
            log.warning("%s of an archive cannot be kept, first: %r", what, entry.name)


def _times(entry: tarfile.TarInfo) -> tuple[int, int]:
    text = entry.pax_headers.get("mtime")
    if text is not None:
        seconds, _, fraction = text.partition(".")
        nanoseconds = int(seconds) * 1_000_000_000 + int((fraction + "0" * 9)[:9])
    else:
        nanoseconds = int(entry.mtime) * 1_000_000_000
    return nanoseconds, nanoseconds


def _set_xattrs(target: int | str | bytes, entry: tarfile.TarInfo, *, follow: bool) -> None:
    for key, value in entry.pax_headers.items():
        if not key.startswith(_XATTR):
            continue
        data = value.encode("utf-8", "surrogateescape")
        try:
            os.setxattr(target, key.removeprefix(_XATTR), data, follow_symlinks=follow)
        except OSError:
            continue  # file systems and rights differ
