"""Layer archives: changes of a snapshot as a tar, byte for byte the same for the same changes.

Headers are put together by hand: ustar, with PAX records only where a value does not fit.

Spec: exporters reference, section 8; POSIX pax.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from torana.core.snapshots.snapshotter import Change, ChangeKind

_BLOCK: Final = 512
_CHUNK: Final = 1 << 20
_MAX_OCTAL_SIZE: Final = 0o77777777777
_MAX_ID: Final = 0o7777777
_CAPABILITY: Final = "security.capability"
_TYPES: Final = {
    stat.S_IFREG: b"0",
    stat.S_IFLNK: b"2",
    stat.S_IFCHR: b"3",
    stat.S_IFBLK: b"4",
    stat.S_IFDIR: b"5",
    stat.S_IFIFO: b"6",
}


class Sink(Protocol):
    """Takes bytes."""

    def write(self, data: bytes, /) -> int: ...


def write_layer(
    changes: Iterable[Change], root: bytes, sink: Sink, *, latest: int | None = None
) -> None:
    """Write `changes` of the tree at `root` as a tar.

    `latest` (seconds since the epoch) is the time that no entry may be younger than. Blocks.
    """
    writer = TarWriter(sink)
    writer.add(changes, root, latest=latest)
    writer.finish()


class TarWriter:
    """Puts the changes of one or more trees into one archive."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def add(
        self,
        changes: Iterable[Change],
        root: bytes,
        *,
        prefix: bytes = b"",
        latest: int | None = None,
        fixed_time: int | None = None,
    ) -> None:
        """Write `changes` of the tree at `root`, names behind `prefix`.

        No entry is younger than `latest`; all have `fixed_time` if it is given (both seconds).
        """
        links: dict[tuple[int, int], bytes] = {}
        for path, source in _with_parents(changes, root):
            if source is None:
                _write_whiteout(self._sink, prefix + path)
                continue
            status = os.lstat(source)
            kind = stat.S_IFMT(status.st_mode)
            if kind == stat.S_IFSOCK:
                continue
            name = prefix + path
            linked = b""
            if kind != stat.S_IFDIR and status.st_nlink > 1:
                known = links.setdefault((status.st_dev, status.st_ino), name)
                linked = b"" if known == name else known
            mtime = status.st_mtime_ns // 1_000_000_000
            if latest is not None:
                mtime = min(mtime, latest)
            if fixed_time is not None:
                mtime = fixed_time
            _write_entry(self._sink, name, source, status, linked, mtime)

    def folder(self, name: bytes, mtime: int) -> None:
        """Write a plain directory; `name` ends with a slash."""
        self._sink.write(tar_header(name, b"5", mode=0o755, size=0, mtime=mtime))

    def finish(self) -> None:
        """Write the trailer."""
        self._sink.write(bytes(2 * _BLOCK))


def _with_parents(changes: Iterable[Change], root: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    """Give path and file of each change, unchanged parents once before their first child."""
    seen: set[bytes] = set()
    for change in changes:
        position = change.path.find(b"/")
        while position >= 0:
            parent = change.path[:position]
            if parent not in seen:
                seen.add(parent)
                yield parent, root + b"/" + parent
            position = change.path.find(b"/", position + 1)
        if change.kind is ChangeKind.DELETE:
            yield change.path, None
            continue
        seen.add(change.path)
        yield change.path, change.source


def _write_whiteout(sink: Sink, path: bytes) -> None:
    folder, slash, name = path.rpartition(b"/")
    sink.write(tar_header(folder + slash + b".wh." + name, b"0", mode=0, size=0))


def _write_entry(
    sink: Sink,
    path: bytes,
    source: bytes,
    status: os.stat_result,
    linked: bytes,
    mtime: int,
) -> None:
    kind = stat.S_IFMT(status.st_mode)
    target = os.readlink(source) if kind == stat.S_IFLNK else linked
    is_file = kind == stat.S_IFREG and not linked
    is_device = kind in (stat.S_IFCHR, stat.S_IFBLK) and not linked
    sink.write(
        tar_header(
            path + b"/" if kind == stat.S_IFDIR else path,
            b"1" if linked else _TYPES[kind],
            mode=stat.S_IMODE(status.st_mode),
            size=status.st_size if is_file else 0,
            uid=status.st_uid,
            gid=status.st_gid,
            mtime=mtime,
            linkname=target,
            device=(os.major(status.st_rdev), os.minor(status.st_rdev)) if is_device else (0, 0),
            capability=None if linked or kind == stat.S_IFLNK else _capability(source),
        )
    )
    if is_file and status.st_size:
        _write_data(sink, source, status.st_size)


def _write_data(sink: Sink, source: bytes, size: int) -> None:
    remaining = size
    with open(source, "rb", buffering=0) as file:
        while remaining:
            data = file.read(min(_CHUNK, remaining))
            if not data:
                raise OSError(f"file became shorter while it was read: {os.fsdecode(source)}")
            sink.write(data)
            remaining -= len(data)
    sink.write(bytes(-size % _BLOCK))


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
    device: tuple[int, int] = (0, 0),
    capability: bytes | None = None,
) -> bytes:
    """Give the header blocks of one entry, PAX records first where they are needed."""
    records: list[tuple[bytes, bytes]] = []
    prefix, short = _split(name)
    if not name.isascii() or short is None:
        records.append((b"path", name))
        prefix, short = b"", name[:100]
    if len(linkname) > 100 or not linkname.isascii():
        records.append((b"linkpath", linkname))
    for key, value, limit in (
        (b"size", size, _MAX_OCTAL_SIZE),
        (b"uid", uid, _MAX_ID),
        (b"gid", gid, _MAX_ID),
        (b"mtime", mtime, _MAX_OCTAL_SIZE),
    ):
        if not 0 <= value <= limit:
            records.append((key, b"%d" % value))
    if capability is not None:
        records.append((b"SCHILY.xattr." + _CAPABILITY.encode(), capability))
    block = _block(
        short,
        prefix,
        kind,
        mode=mode,
        size=size if size <= _MAX_OCTAL_SIZE else 0,
        uid=uid if uid <= _MAX_ID else 0,
        gid=gid if gid <= _MAX_ID else 0,
        mtime=mtime if 0 <= mtime <= _MAX_OCTAL_SIZE else 0,
        linkname=linkname[:100],
        device=device,
    )
    return _pax(name, records) + block if records else block


def _split(name: bytes) -> tuple[bytes, bytes | None]:
    """Give prefix and name for a ustar header; None where it does not fit."""
    if len(name) <= 100:
        return b"", name
    if len(name) > 256:
        return b"", None
    position = name.find(b"/", max(0, len(name) - 101))
    if position <= 0 or position > 155 or position == len(name) - 1:
        return b"", None
    return name[:position], name[position + 1 :]


def _pax(name: bytes, records: list[tuple[bytes, bytes]]) -> bytes:
    body = b"".join(_record(key, value) for key, value in sorted(records))
    folder, _, last = name.rstrip(b"/").rpartition(b"/")
    title = (folder[:60] + b"/" if folder else b"") + b"PaxHeaders.0/" + last[:20]
    title = bytes(c if c < 128 else 0x3F for c in title)
    head = _block(title[:100], b"", b"x", mode=0o644, size=len(body))
    return head + body + bytes(-len(body) % _BLOCK)


def _record(key: bytes, value: bytes) -> bytes:
    """Give a PAX record: its length counts itself."""
    total = len(key) + len(value) + 3
    digits = len(b"%d" % total)
    while len(b"%d" % (total + digits)) != digits:
        digits += 1
    return b"%d %s=%s\n" % (total + digits, key, value)


def _block(
    name: bytes,
    prefix: bytes,
    kind: bytes,
    *,
    mode: int,
    size: int,
    uid: int = 0,
    gid: int = 0,
    mtime: int = 0,
    linkname: bytes = b"",
    device: tuple[int, int] = (0, 0),
) -> bytes:
    head = b"%-.100b" % name
    block = bytearray(
        b"".join(
            (
                head.ljust(100, b"\0"),
                b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size, mtime),
                b"        ",
                kind,
                linkname.ljust(100, b"\0"),
                b"ustar\x0000",
                bytes(64),
                b"%07o\0%07o\0" % device,
                prefix.ljust(155, b"\0"),
                bytes(12),
            )
        )
    )
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)
