"""`TarTimes`: lets a tar pass, its times brought down to a limit.

Only headers change: the time of each entry, and the records of pax headers that are times.

Spec: exporters reference, section 12; POSIX pax.
"""

from __future__ import annotations

from typing import Final

from torana.core.errors import CorruptError
from torana.core.snapshots.layertar import Sink, pax_record
from torana.core.snapshots.tarstream import pax_records, tar_number

_BLOCK: Final = 512
_MAX_PAX: Final = 1 << 20  # bytes
_TIMES: Final = (b"mtime", b"atime", b"ctime")
_WITHOUT_DATA: Final = (b"1", b"2", b"3", b"4", b"5", b"6")


class TarTimes:
    """Takes the bytes of a tar in pieces of any size, and hands them on with times clamped."""

    def __init__(self, sink: Sink, latest: int) -> None:
        self._sink = sink
        self._latest = latest  # seconds since the epoch
        self._rest = bytearray()
        self._passing = 0  # bytes that are data
        self._wanted = _BLOCK  # bytes of a header, of a pax one with its records
        self._size: int | None = None  # of the next entry, where a pax header says it

    def write(self, data: bytes) -> int:
        """Take a piece.

        Raises:
            CorruptError: it is no tar, or of a form that is not understood.
        """
        self._rest += data
        while True:
            if self._passing:
                passed = bytes(self._rest[: self._passing])
                del self._rest[: len(passed)]
                self._passing -= len(passed)
                self._sink.write(passed)
            if self._passing or len(self._rest) < self._wanted:
                return len(data)
            self._header(bytes(self._rest[:_BLOCK]))

    def finish(self) -> None:
        """Hand on what comes after the last whole block."""
        self._sink.write(bytes(self._rest))
        self._rest.clear()

    def _header(self, block: bytes) -> None:
        if not any(block):
            del self._rest[:_BLOCK]
            self._sink.write(block)
            return
        kind = block[156:157]
        size = tar_number(block[124:136]) if self._size is None else self._size
        if kind in (b"x", b"g"):
            self._pax(block, kind, size)
            return
        if kind == b"S":
            raise CorruptError("archive has a sparse file of an old form")
        del self._rest[:_BLOCK]
        if kind not in (b"L", b"K"):
            self._size = None
        self._passing = 0 if kind in _WITHOUT_DATA else size + -size % _BLOCK
        self._sink.write(self._clamped(block))

    def _pax(self, block: bytes, kind: bytes, size: int) -> None:
        if size > _MAX_PAX:
            raise CorruptError(f"archive has an extended header of {size} bytes")
        whole = _BLOCK + size + -size % _BLOCK
        if len(self._rest) < whole:
            self._wanted = whole
            return
        records = pax_records(bytes(self._rest[_BLOCK : _BLOCK + size]))
        del self._rest[:whole]
        self._wanted = _BLOCK
        if kind == b"x" and b"size" in records:
            self._size = int(records[b"size"])
        body = b"".join(
            pax_record(key, self._clamped_record(key, value)) for key, value in records.items()
        )
        sized = block[:124] + b"%011o\0" % len(body) + block[136:]
        self._sink.write(self._clamped(sized) + body + bytes(-len(body) % _BLOCK))

    def _clamped_record(self, key: bytes, value: bytes) -> bytes:
        if key not in _TIMES:
            return value
        try:
            return b"%d" % self._latest if float(value) > self._latest else value
        except ValueError:
            raise CorruptError("archive is damaged: malformed time") from None

    def _clamped(self, block: bytes) -> bytes:
        if tar_number(block[136:148]) > self._latest:
            block = block[:136] + b"%011o\0" % self._latest + block[148:]
        checksum = sum(block[:148]) + 8 * 0x20 + sum(block[156:])
        return block[:148] + b"%06o\0 " % checksum + block[156:]
