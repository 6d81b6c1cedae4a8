"""`TarStream`: entries of a tar that comes in as a stream, names and links as bytes.

Reads ustar, pax, GNU long names and numbers, and the sparse forms of GNU tar; `tarfile` costs three
times as much a member and loses bytes of names that are not UTF-8.

Spec: POSIX pax; GNU tar manual, "Basic Tar Format" and "Storing Sparse Files".
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final, Protocol

from torana.core.errors import CorruptError

REGULAR: Final = b"0"
LINK: Final = b"1"
SYMLINK: Final = b"2"
CHARACTER: Final = b"3"
BLOCK: Final = b"4"
FOLDER: Final = b"5"
FIFO: Final = b"6"

_SIZE: Final = 512
_CHUNK: Final = 1 << 18
_MAX_EXTENSION: Final = 1 << 20  # bytes of a pax header or a long name
_MAX_PIECES: Final = 1 << 20  # of a sparse file
_XATTR: Final = b"SCHILY.xattr."
_NANO: Final = 1_000_000_000


class Readable(Protocol):
    """Gives bytes, fewer than asked for if it likes, none at its end."""

    def read(self, size: int, /) -> bytes: ...


class Entry:
    """One member of an archive; the fields are those of its header after all extensions."""

    __slots__ = (
        "atime_ns", "device", "gid", "kind", "linkname", "mode", "mtime_ns", "name", "pieces",
        "size", "stored", "uid", "xattrs",
    )  # fmt: skip

    def __init__(self) -> None:
        self.name = b""
        self.kind = REGULAR
        self.mode = self.uid = self.gid = 0
        self.size = 0  # of the file, holes included
        self.stored = 0  # bytes in the archive
        self.mtime_ns = 0
        self.atime_ns: int | None = None
        self.linkname = b""
        self.device = (0, 0)
        self.xattrs: dict[str, bytes] = {}
        self.pieces: list[tuple[int, int]] | None = (
            None  # offset, size of the data of a sparse file
        )


class TarStream:
    """Iterate once; `copy_to` writes the data of the entry that was given last."""

    def __init__(self, file: Readable) -> None:
        self._file = file
        self._data = memoryview(b"")
        self._position = 0
        self._left = 0  # data of the current entry that nobody has read, padding excluded
        self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        pax: dict[bytes, bytes] = {}
        common: dict[bytes, bytes] = {}
        while True:
            self._skip()
            header = self._take(_SIZE)
            if header is None or not any(header):
                self._drain()
                return
            entry = parse_header(header)
            kind = entry.kind
            if kind in (b"x", b"g", b"L", b"K"):
                body = self._extension(entry.stored)
                if kind == b"x":
                    pax.update(pax_records(body))
                elif kind == b"g":
                    common.update(pax_records(body))
                else:
                    pax[b"path" if kind == b"L" else b"linkpath"] = body.split(b"\0", 1)[0]
                continue
            if kind == b"S":
                self._old_sparse(header, entry)
            if pax or common:
                extend(entry, {**common, **pax})
                pax = {}
            if kind in b"\0S7":
                is_old_folder = kind == b"\0" and entry.name.endswith(b"/")
                entry.kind = FOLDER if is_old_folder else REGULAR
            if entry.kind != REGULAR:
                # Some writers note the size of a link's target, and no data follows it.
                has_data = entry.kind not in (LINK, SYMLINK, CHARACTER, BLOCK, FOLDER, FIFO)
                entry.stored = entry.stored if has_data else 0
            self._left = entry.stored
            self._padding = -entry.stored % _SIZE
            if entry.pieces is not None and not entry.pieces and entry.stored:
                self._new_sparse(entry)
            yield entry

    def copy_to(self, file: int, entry: Entry) -> None:
        """Write the data of the current entry to an empty file, holes left as holes."""
        if entry.pieces is None:
            self._copy(file, self._left)
            return
        for offset, size in entry.pieces:
            os.lseek(file, offset, os.SEEK_SET)
            self._copy(file, size)
        os.ftruncate(file, entry.size)

    def _copy(self, file: int, size: int) -> None:
        if size > self._left:
            raise CorruptError("archive is damaged: a sparse file has too little data")
        self._left -= size
        while size:
            if self._position == len(self._data):
                self._fill()
            part = self._data[self._position : self._position + size]
            written = os.write(file, part)
            self._position += written
            size -= written

    def _fill(self) -> None:
        data = self._file.read(_CHUNK)
        if not data:
            raise CorruptError("archive is damaged: unexpected end of data")
        self._data = memoryview(data)
        self._position = 0

    def _take(self, size: int) -> bytes | None:
        """Read exactly `size` bytes; None at the end of the stream."""
        end = self._position + size
        if end <= len(self._data):
            part = bytes(self._data[self._position : end])
            self._position = end
            return part
        parts = [bytes(self._data[self._position :])]
        missing = size - len(parts[0])
        self._position = len(self._data)
        while missing:
            try:
                self._fill()
            except CorruptError:
                if missing == size:
                    return None
                raise
            part = bytes(self._data[:missing])
            self._position = len(part)
            missing -= len(part)
            parts.append(part)
        return b"".join(parts)

    def _need(self, size: int) -> bytes:
        data = self._take(size)
        if data is None:
            raise CorruptError("archive is damaged: unexpected end of data")
        return data

    def _skip(self) -> None:
        size = self._left + self._padding
        self._left = self._padding = 0
        while size:
            if self._position == len(self._data):
                self._fill()
            step = min(size, len(self._data) - self._position)
            self._position += step
            size -= step

    def _drain(self) -> None:
        """Read to the end, for those who hash what we read."""
        self._data = memoryview(b"")
        self._position = 0
        while self._file.read(_CHUNK):
            pass

    def _extension(self, size: int) -> bytes:
        if size > _MAX_EXTENSION:
            raise CorruptError(f"archive has an extended header of {size} bytes")
        body = self._need(size) if size else b""
        self._padding = -size % _SIZE
        return body

    def _old_sparse(self, header: bytes, entry: Entry) -> None:
        """Read the map of GNU tar's `S` entries: four pieces here, more in blocks that follow."""
        pieces = _pieces(header, 386, 4)
        more = header[482]
        entry.size = tar_number(header[483:495])
        while more:
            block = self._need(_SIZE)
            pieces += _pieces(block, 0, 21)
            more = block[504]
            if len(pieces) > _MAX_PIECES:
                raise CorruptError("archive has a sparse file of too many pieces")
        entry.pieces = pieces

    def _new_sparse(self, entry: Entry) -> None:
        """Read the map at the begin of the data: decimal lines, padded to a block (version 1.0)."""
        text = b""

        def line() -> int:
            nonlocal text
            while b"\n" not in text:
                if self._left < _SIZE or len(text) > _SIZE:
                    raise CorruptError("archive is damaged: map of a sparse file")
                text += self._need(_SIZE)
                self._left -= _SIZE
            digits, _, text = text.partition(b"\n")
            return _decimal(digits)

        count = line()
        if count > _MAX_PIECES:
            raise CorruptError("archive has a sparse file of too many pieces")
        entry.pieces = [(line(), line()) for _ in range(count)]


def parse_header(header: bytes) -> Entry:
    """Read one header, without what extensions say.

    Raises:
        CorruptError: its checksum or a number is wrong.
    """
    total = sum(header) - sum(header[148:156]) + 8 * 0x20
    if total != tar_number(header[148:156]):
        raise CorruptError("archive is damaged: wrong checksum of a header")
    entry = Entry()
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] == b"ustar\0" and header[345]:
        name = header[345:500].split(b"\0", 1)[0] + b"/" + name
    entry.name = name
    entry.kind = header[156:157]
    entry.mode = tar_number(header[100:108]) & 0o7777
    entry.uid = tar_number(header[108:116])
    entry.gid = tar_number(header[116:124])
    entry.size = entry.stored = tar_number(header[124:136])
    if entry.stored < 0:
        raise CorruptError("archive is damaged: negative size")
    entry.mtime_ns = tar_number(header[136:148]) * _NANO
    entry.linkname = header[157:257].split(b"\0", 1)[0]
    if entry.kind in (CHARACTER, BLOCK):
        entry.device = (tar_number(header[329:337]), tar_number(header[337:345]))
    return entry


def tar_number(field: bytes) -> int:
    """Read an octal number, or GNU's binary one, which has the first bit set."""
    first = field[0]
    if first & 0x80:
        value = int.from_bytes(field, "big")
        bits = 8 * len(field)
        return value - (1 << bits) if first & 0x40 else value - (1 << (bits - 1))
    text = field.strip(b" \0").split(b"\0", 1)[0]
    try:
        return int(text, 8) if text else 0
    except ValueError:
        raise CorruptError("archive is damaged: malformed number in a header") from None


def _decimal(text: bytes) -> int:
    try:
        value = int(text)
    except ValueError:
        raise CorruptError("archive is damaged: malformed number") from None
    if value < 0:
        raise CorruptError("archive is damaged: negative number")
    return value


def _pieces(block: bytes, start: int, count: int) -> list[tuple[int, int]]:
    found = []
    for i in range(start, start + 24 * count, 24):
        if not any(block[i : i + 24]):
            break
        found.append((tar_number(block[i : i + 12]), tar_number(block[i + 12 : i + 24])))
    return found


def pax_records(body: bytes) -> dict[bytes, bytes]:
    """Read the records of a pax header; those of sparse files come as one map.

    Raises:
        CorruptError: they are malformed.
    """
    found: dict[bytes, bytes] = {}
    position = 0
    pieces: list[bytes] = []
    while position < len(body) and body[position]:
        space = body.find(b" ", position, position + 20)
        length = _decimal(body[position:space]) if space > 0 else 0
        end = position + length
        equals = body.find(b"=", space, end)
        if length == 0 or end > len(body) or equals < 0 or body[end - 1] != 0x0A:
            raise CorruptError("archive is damaged: malformed pax record")
        key, value = body[space + 1 : equals], body[equals + 1 : end - 1]
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            pieces.append(value)  # version 0.0 repeats these two
        else:
            found[key] = value
        position = end
    if pieces:
        found[b"GNU.sparse.map"] = b",".join(pieces)
    return found


def extend(entry: Entry, records: dict[bytes, bytes]) -> None:
    """Let the records of a pax header replace what the entry's own header says."""
    for key, value in records.items():
        if key == b"path":
            entry.name = value
        elif key == b"linkpath":
            entry.linkname = value
        elif key == b"size":
            entry.size = entry.stored = _decimal(value)
        elif key == b"uid":
            entry.uid = _decimal(value)
        elif key == b"gid":
            entry.gid = _decimal(value)
        elif key == b"mtime":
            entry.mtime_ns = _time(value)
        elif key == b"atime":
            entry.atime_ns = _time(value)
        elif key.startswith(_XATTR):
            entry.xattrs[os.fsdecode(key[len(_XATTR) :])] = value
    if b"GNU.sparse.map" in records or b"GNU.sparse.major" in records:
        numbers = [_decimal(n) for n in records.get(b"GNU.sparse.map", b"").split(b",") if n]
        entry.pieces = list(zip(numbers[::2], numbers[1::2], strict=False))
        entry.name = records.get(b"GNU.sparse.name", entry.name)
        size = records.get(b"GNU.sparse.realsize", records.get(b"GNU.sparse.size"))
        entry.size = entry.size if size is None else _decimal(size)


def _time(value: bytes) -> int:
    """Read seconds with a fraction, as nanoseconds."""
    seconds, _, fraction = value.partition(b".")
    is_negative = seconds.startswith(b"-")
    digits = (fraction + b"000000000")[:9]
    whole = _decimal(seconds.removeprefix(b"-")) * _NANO + _decimal(digits)
    return -whole if is_negative else whole
