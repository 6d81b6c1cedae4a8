"""Layer archives: changes of a snapshot as a tar, byte for byte the same for the same changes.

Headers are put together by hand (`tarfile` needs 75 us a member), in the form that Go's archive/tar
gives them, so that the same tree gets the same diff id from us and from BuildKit: ustar, with pax
records only where a value does not fit, and the prefix field for whiteouts alone.

Spec: exporters reference, section 8; POSIX pax.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from torana.core.errors import CorruptError
from torana.core.snapshots.snapshotter import Change, ChangeKind
from torana.core.snapshots.tarsplice import TarSplice

_BLOCK: Final = 512
_CHUNK: Final = 1 << 20
_FLUSH: Final = 1 << 18
_NAME: Final = 100
_PREFIX: Final = 155
_MAX_SIZE: Final = 0o77777777777
_MAX_ID: Final = 0o7777777
_NANO: Final = 1_000_000_000
_CAPABILITY: Final = "security.capability"
_CAPABILITY_KEY: Final = b"SCHILY.xattr.security.capability"
_LINK: Final = b"1"
_TYPES: Final = {
    stat.S_IFREG: b"0",
    stat.S_IFLNK: b"2",
    stat.S_IFCHR: b"3",
    stat.S_IFBLK: b"4",
    stat.S_IFDIR: b"5",
    stat.S_IFIFO: b"6",
}
_MAGIC: Final = b"ustar\x0000" + bytes(64)  # with empty names of owner and group
_NO_DEVICE: Final = b"0000000\x000000000\x00"
_END: Final = bytes(_PREFIX + 12)
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class Sink(Protocol):
    """Takes bytes."""

    def write(self, data: bytes, /) -> int: ...


def write_layer(
    changes: Iterable[Change],
    root: bytes,
    sink: Sink,
    *,
    latest: int | None = None,
    splice: TarSplice | None = None,
) -> None:
    """Write `changes` of the tree at `root` as a tar, to `sink` in big pieces. Blocks.

    `latest` (seconds since the epoch) is the time that no entry may be younger than. `splice` gives
    entries of an archive that was written with the same `latest`.

    Raises:
        CorruptError: a file became shorter while it was read.
    """
    writer = TarWriter(sink)
    writer.add(changes, root, latest=latest, splice=splice)
    writer.finish()


def _with_parents(
    changes: Iterable[Change], root: bytes
) -> Iterator[tuple[bytes, bytes | None, os.stat_result | None]]:
    """Give path, file and status of each change, unchanged parents before their first child."""
    seen: set[bytes] = {b""}
    for change in changes:
        path = change.path
        above = path[: max(path.rfind(b"/"), 0)]
        if above not in seen:
            position = path.find(b"/")
            while position >= 0:
                parent = path[:position]
                if parent not in seen:
                    seen.add(parent)
                    yield parent, root + b"/" + parent, None
                position = path.find(b"/", position + 1)
        if change.kind is ChangeKind.DELETE:
            yield path, None, None
            continue
        if change.status is None or stat.S_ISDIR(change.status.st_mode):
            seen.add(path)
        yield path, change.source, change.status


class TarWriter:
    """An archive of one or more trees; small pieces are gathered before they go to the sink."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._latest: int | None = None
        self._fixed_time: int | None = None
        self._links: dict[tuple[int, int], bytes] = {}
        self._buffer = bytearray()

    def add(
        self,
        changes: Iterable[Change],
        root: bytes,
        *,
        prefix: bytes = b"",
        latest: int | None = None,
        fixed_time: int | None = None,
        splice: TarSplice | None = None,
    ) -> None:
        """Write `changes` of the tree at `root`, names behind `prefix`.

        No entry is younger than `latest`; all have `fixed_time` if it is given (both seconds).
        """
        self._latest, self._fixed_time = latest, fixed_time
        self._links.clear()
        for path, source, status in _with_parents(changes, root):
            if source is None:
                self.whiteout(prefix + path)
                continue
            status = os.lstat(source) if status is None else status
            if splice is not None and status.st_nlink > 1:
                entry = self._spliced(splice, path, status)
                if entry is not None:
                    self._put(entry)
                    continue
            self.entry(prefix + path, source, status)

    def folder(self, name: bytes, mtime: int) -> None:
        """Write a plain directory; `name` ends with a slash."""
        self._put(tar_header(name, b"5", mode=0o755, size=0, mtime=mtime))

    def whiteout(self, path: bytes) -> None:
        folder, slash, name = path.rpartition(b"/")
        name = folder + slash + b".wh." + name
        prefix, short = _split(name)
        if short is None:
            self._put(_pax(name, [(b"path", name)]) + _block(_fitting(name), b"0", mode=0, size=0))
        else:
            self._put(_block(short, b"0", mode=0, size=0, prefix=prefix))

    def _spliced(self, splice: TarSplice, path: bytes, status: os.stat_result) -> bytes | None:
        """Take an entry, unless it is a link to an earlier one in this archive."""
        key = status.st_dev, status.st_ino
        if key in self._links:
            return None
        entry = splice.take(path, status)
        if entry is not None:
            self._links[key] = path
        return entry

    def entry(self, path: bytes, source: bytes, status: os.stat_result) -> None:
        mode = status.st_mode
        kind = stat.S_IFMT(mode)
        if kind == stat.S_IFSOCK:
            return
        linkname = b""
        type_ = _TYPES[kind]
        name = path
        capability = None
        size = 0
        if kind == stat.S_IFDIR:
            name = path + b"/"
        elif status.st_nlink > 1:
            known = self._links.setdefault((status.st_dev, status.st_ino), path)
            if known != path:
                linkname = known
                type_ = _LINK
        if not linkname:
            if kind == stat.S_IFREG:
                size = status.st_size
                capability = _capability(source)
            elif kind == stat.S_IFLNK:
                linkname = os.readlink(source)
        mtime = status.st_mtime_ns // _NANO
        if self._latest is not None and mtime > self._latest:
            mtime = self._latest
        if self._fixed_time is not None:
            mtime = self._fixed_time
        is_device = type_ in (b"3", b"4")
        self._put(
            tar_header(
                name,
                type_,
                mode=mode & 0o7777,
                size=size,
                uid=status.st_uid,
                gid=status.st_gid,
                mtime=mtime,
                linkname=linkname,
                device=status.st_rdev if is_device else None,
                capability=capability,
            )
        )
        if size:
            self._file(source, status)

    def _put(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) >= _FLUSH:
            self._flush()

    def _flush(self) -> None:
        if self._buffer:
            self._sink.write(bytes(self._buffer))
            self._buffer.clear()

    def _file(self, source: bytes, status: os.stat_result) -> None:
        size = status.st_size
        file = os.open(source, _OPEN)
        try:
            if size < _FLUSH:
                data = os.read(file, size)
                if len(data) != size:
                    raise _shorter(source)
                self._put(data + bytes(-size % _BLOCK))
                return
            self._flush()
            is_sparse = status.st_blocks * 512 < size
            for start, end in _pieces(file, size) if is_sparse else ((0, size),):
                self._copy(file, source, start, end)
        finally:
            os.close(file)
        self._put(bytes(-size % _BLOCK))

    def _copy(self, file: int, source: bytes, start: int, end: int) -> None:
        """Write the bytes from `start` to `end`; a piece of zeros has a negative `start`."""
        if start < 0:
            zeros = bytes(min(_CHUNK, end))
            for _ in range(end // _CHUNK):
                self._sink.write(zeros)
            if end % _CHUNK:
                self._sink.write(zeros[: end % _CHUNK])
            return
        while start < end:
            data = os.pread(file, min(_CHUNK, end - start), start)
            if not data:
                raise _shorter(source)
            self._sink.write(data)
            start += len(data)

    def finish(self) -> None:
        self._put(bytes(2 * _BLOCK))
        self._flush()


def _shorter(source: bytes) -> CorruptError:
    return CorruptError(f"file became shorter while it was read: `{os.fsdecode(source)}`")


def _pieces(file: int, size: int) -> Iterator[tuple[int, int]]:
    """Give the data of a sparse file as (start, end), and its holes as (-1, length)."""
    position = 0
    while position < size:
        try:
            start = os.lseek(file, position, os.SEEK_DATA)
        except OSError:  # nothing but a hole
            start = size
        start = min(start, size)
        if start > position:
            yield -1, start - position
        if start == size:
            return
        position = min(os.lseek(file, start, os.SEEK_HOLE), size)
        yield start, position


def _capability(source: bytes) -> bytes | None:
    try:
        return os.getxattr(source, _CAPABILITY, follow_symlinks=False)
    except OSError:
        return None


def tar_header(
    name: bytes,
    kind: bytes,
    *,
    mode: int,
    size: int,
    uid: int = 0,
    gid: int = 0,
    mtime: int = 0,
    linkname: bytes = b"",
    device: int | None = None,
    capability: bytes | None = None,
) -> bytes:
    """Give the header blocks of one entry, pax records first where they are needed."""
    records: list[tuple[bytes, bytes]] = []
    title = name
    if len(name) > _NAME or not name.isascii():
        records.append((b"path", name))
        name = _fitting(name)
    if len(linkname) > _NAME or not linkname.isascii():
        records.append((b"linkpath", linkname))
        linkname = _fitting(linkname)
    if size > _MAX_SIZE:
        records.append((b"size", b"%d" % size))
        size = 0
    if uid > _MAX_ID:
        records.append((b"uid", b"%d" % uid))
        uid = 0
    if gid > _MAX_ID:
        records.append((b"gid", b"%d" % gid))
        gid = 0
    if not 0 <= mtime <= _MAX_SIZE:
        records.append((b"mtime", b"%d" % mtime))
        mtime = 0
    if capability is not None:
        records.append((_CAPABILITY_KEY, capability))
    block = _block(
        name, kind, mode=mode, size=size, uid=uid, gid=gid, mtime=mtime, linkname=linkname,
        device=device,
    )  # fmt: skip
    return _pax(title, records) + block if records else block


def _split(name: bytes) -> tuple[bytes, bytes | None]:
    """Give prefix and name for a ustar header; None where it does not fit."""
    if not name.isascii():
        return b"", None
    if len(name) <= _NAME:
        return b"", name
    position = name.rfind(b"/", 0, _PREFIX + 1)
    if position <= 0 or not 0 < len(name) - position - 1 <= _NAME:
        return b"", None
    return name[:position], name[position + 1 :]


def _ascii(name: bytes) -> bytes:
    return name if name.isascii() else bytes(c for c in name if c < 0x80)


def _fitting(name: bytes) -> bytes:
    """Give what stands in the header of a name that a pax record holds."""
    name = _ascii(name)
    if len(name) > _NAME and name[_NAME - 1] == 0x2F:
        # Readers that do not know pax would take a file with a final slash for a directory.
        return name[: _NAME - 1].rstrip(b"/")
    return name[:_NAME]


def _pax(name: bytes, records: list[tuple[bytes, bytes]]) -> bytes:
    body = b"".join(pax_record(key, value) for key, value in sorted(records))
    folder, _, last = name.rpartition(b"/")
    title = b"/".join(part for part in (folder, b"PaxHeaders.0", last) if part)
    title = _ascii(title)[:_NAME].rstrip(b"/")
    head = _block(title, b"x", mode=0, size=len(body), devices=bytes(16))
    return head + body + bytes(-len(body) % _BLOCK)


def pax_record(key: bytes, value: bytes) -> bytes:
    """Give a pax record: its length counts itself."""
    total = len(key) + len(value) + 3
    digits = len(b"%d" % total)
    while len(b"%d" % (total + digits)) != digits:
        digits += 1
    return b"%d %s=%s\n" % (total + digits, key, value)


def _block(
    name: bytes,
    kind: bytes,
    *,
    mode: int,
    size: int,
    uid: int = 0,
    gid: int = 0,
    mtime: int = 0,
    linkname: bytes = b"",
    device: int | None = None,
    devices: bytes = _NO_DEVICE,
    prefix: bytes = b"",
) -> bytes:
    """Give one header block; all values fit."""
    numbers = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size, mtime)
    if device is not None:
        devices = b"%07o\0%07o\0" % (os.major(device), os.minor(device))
    end = _END if not prefix else prefix.ljust(_PREFIX + 12, b"\0")
    # The checksum counts itself as eight blanks; zeros need not be added up.
    checksum = (
        sum(name) + sum(numbers) + 0x100 + kind[0] + sum(linkname) + sum(b"ustar00")
        + sum(devices) + sum(prefix)
    )  # fmt: skip
    return b"%b%b%06o\0 %b%b%b%b%b" % (
        name.ljust(_NAME, b"\0"), numbers, checksum, kind, linkname.ljust(_NAME, b"\0"), _MAGIC,
        devices, end,
    )  # fmt: skip
