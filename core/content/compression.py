"""Compressed streams: gzip, zstd or none for layers, and whatever an archive comes in.

Gzip is written as members of 1 MiB each (RFC 1952, section 2.2), so that blocks are compressed in
parallel threads and the bytes do not depend on how many; isal's level 1 is ten times as fast as
zlib at nearly the same ratio. Levels above 3 are what users ask for by number: those go to zlib.

isal's levels 1 and 2 take the hash of a stream's third byte from a register that holds the address
of the stream (`write_first_byte` in igzip_icf_body_h1_gr_bt.asm, ISA-L 2.32.1 has it, too): for
one address in some thousands a match with the first byte is missed. A block's first bytes are
flushed alone, so that the stream begins in another function, which is right.
"""

from __future__ import annotations

import os
import zlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any, Final, Protocol

from torana.core.errors import UserError
from torana.core.records import dataclass

_TYPES: Final = ("gzip", "estargz", "zstd", "uncompressed")
DEFAULT_LEVEL: Final = 1  # of gzip
_BLOCK: Final = 1 << 20
_ALONE: Final = 4  # first bytes that isal gets by themselves: as many as it hashes
_ZSTD_JOB: Final = 2 << 20  # bytes that a thread takes at once; left to itself it is much more
_MAGIC: Final = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)


@dataclass(frozen=True, slots=True)
class Compression:
    """How layers are compressed: `gzip`, `estargz`, `zstd` or `uncompressed`.

    Level None is the default.
    """

    type: str = "gzip"
    level: int | None = None

    @property
    def suffix(self) -> str:
        """End of the layer's media type."""
        return {"gzip": "+gzip", "estargz": "+gzip", "zstd": "+zstd", "uncompressed": ""}[self.type]

    @property
    def key(self) -> str:
        """Identity for stored blobs."""
        return self.type if self.level is None else f"{self.type}:{self.level}"


GZIP: Final = Compression()


def parse_compression(kind: str, level: str | None) -> Compression:
    """Read exporter attributes.

    Raises:
        UserError: unknown type, or a level that is no number.
    """
    if kind not in _TYPES:
        raise UserError(
            f"unsupported layer compression type: `{kind}`",
            hint=f"known: {', '.join(_TYPES)}",
        )
    if not level:
        return Compression(kind)
    try:
        number = int(level)
    except ValueError:
        raise UserError(f"non-integer value {level} for compression-level") from None
    if kind in ("gzip", "estargz") and not -2 <= number <= 9:
        raise UserError(f"{kind}: invalid compression level: {number}", hint="0 to 9")
    return Compression(kind, number)


class Sink(Protocol):
    """Takes bytes."""

    def write(self, data: bytes, /) -> int: ...


class Compressor(Protocol):
    """Takes plain bytes, hands compressed ones to its sink; `finish` ends the stream."""

    def write(self, data: bytes, /) -> int: ...

    def finish(self) -> None: ...


def compressor(compression: Compression, sink: Sink) -> Compressor:
    """Make the compressor for `compression` in front of `sink`.

    What `estargz` makes of a tar is `torana.core.snapshots.estargz`'s business.
    """
    if compression.type == "uncompressed":
        return _Plain(sink)
    if compression.type == "zstd":
        return _Zstd(sink, compression.level)
    return _Gzip(sink, compression.level)


class _Plain:
    def __init__(self, sink: Sink) -> None:
        self.write = sink.write

    def finish(self) -> None:
        pass


class _Gzip:
    """Blocks in parallel, results in order. The blocks' memory is used again and again."""

    def __init__(self, sink: Sink, level: int | None) -> None:
        self._sink = sink
        self._compress = gzip_member(DEFAULT_LEVEL if level is None else level)
        self._threads = min(4, os.cpu_count() or 1)
        self._pool: ThreadPoolExecutor | None = None
        self._pending: deque[tuple[Future[bytes], bytearray]] = deque()
        self._free: list[bytearray] = []
        self._block = bytearray()  # being filled
        self._filled = 0
        self._is_empty = True

    def write(self, data: bytes) -> int:
        left = memoryview(data)
        while left:
            if not self._block:
                self._block = self._free.pop() if self._free else bytearray(_BLOCK)
            part = left[: _BLOCK - self._filled]
            self._block[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            left = left[len(part) :]
            if self._filled == _BLOCK:
                self._submit()
        return len(data)

    def _submit(self) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="gzip")
        self._pending.append((self._pool.submit(self._compress, self._block), self._block))
        self._block, self._filled, self._is_empty = bytearray(), 0, False
        while len(self._pending) > 2 * self._threads:
            future, block = self._pending.popleft()
            self._sink.write(future.result())
            self._free.append(block)

    def finish(self) -> None:
        try:
            for future, _ in self._pending:
                self._sink.write(future.result())
        finally:
            if self._pool is not None:
                self._pool.shutdown()
        if self._filled or self._is_empty:
            self._sink.write(self._compress(memoryview(self._block)[: self._filled]))


def gzip_member(level: int) -> Callable[[bytearray | memoryview], bytes]:
    """Give what makes a gzip member of bytes; a level below zero is the default."""
    level = DEFAULT_LEVEL if level < 0 else level
    header = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

    def frame(deflated: list[bytes], size: int, crc: int) -> bytes:
        end = crc.to_bytes(4, "little") + size.to_bytes(4, "little")
        return b"".join((header, *deflated, end))

    if level <= 3:
        try:
            from isal import isal_zlib
        except ImportError:
            level = max(level, 1)
        else:

            def fast(block: bytearray | memoryview) -> bytes:
                packer = isal_zlib.compressobj(min(level, 3), isal_zlib.DEFLATED, -15)
                rest, deflated = memoryview(block), []
                if level in (1, 2):
                    deflated.append(packer.compress(rest[:_ALONE]))
                    deflated.append(packer.flush(isal_zlib.Z_SYNC_FLUSH))
                    rest = rest[_ALONE:]
                deflated += (packer.compress(rest), packer.flush())
                return frame(deflated, len(block), isal_zlib.crc32(block))

            return fast

    def thorough(block: bytearray | memoryview) -> bytes:
        packer = zlib.compressobj(level, zlib.DEFLATED, -15)
        deflated = [packer.compress(block), packer.flush()]
        return frame(deflated, len(block), zlib.crc32(block))

    return thorough


class _Zstd:
    """One frame, compressed in threads; its bytes do not depend on how many."""

    def __init__(self, sink: Sink, level: int | None) -> None:
        import zstandard

        known = 3 if level is None else max(1, min(level, 22))
        parameters = zstandard.ZstdCompressionParameters.from_level(
            known, threads=min(4, os.cpu_count() or 1), job_size=_ZSTD_JOB
        )
        compressor = zstandard.ZstdCompressor(compression_params=parameters)
        self._object = compressor.compressobj()
        self._sink = sink

    def write(self, data: bytes) -> int:
        out = self._object.compress(data)
        if out:
            self._sink.write(out)
        return len(data)

    def finish(self) -> None:
        self._sink.write(self._object.flush())


def sniff(head: bytes) -> str:
    """Name the compression of a stream by its first bytes: gzip, bzip2, xz, zstd or ``""``."""
    return next((name for magic, name in _MAGIC if head.startswith(magic)), "")


def _open_gzip(file: IO[bytes]) -> Any:
    try:
        from isal import igzip
    except ImportError:
        import gzip

        return gzip.GzipFile(fileobj=file, mode="rb")
    kind: Any = igzip.IGzipFile
    return kind(fileobj=file, mode="rb")


def open_compressed(file: IO[bytes]) -> IO[bytes]:
    """Give the plain bytes of a seekable file that may be compressed.

    Errors while reading are OSError, EOFError or ValueError (or a module's own subclass of
    Exception for zstd), as the libraries raise them.
    """
    position = file.tell()
    kind = sniff(file.read(6))
    file.seek(position)
    opened: Any = file
    if kind == "gzip":
        opened = _open_gzip(file)
    elif kind == "bzip2":
        import bz2

        opened = bz2.BZ2File(file)
    elif kind == "xz":
        import lzma

        opened = lzma.LZMAFile(file)
    elif kind == "zstd":
        import zstandard

        opened = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
    return opened  # type: ignore[no-any-return]  # all of them read like files
