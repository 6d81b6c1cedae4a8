from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from torana.core.content.compression import (
    Compression,
    compressor,
    gzip_member,
    open_compressed,
    parse_compression,
    sniff,
)
from torana.core.errors import UserError

MIB = 1 << 20
SIZES = [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB + 17, 20 * MIB]
KINDS = [
    Compression(),
    *(Compression("gzip", level) for level in (0, 1, 3, 4, 9, -1)),
    Compression("zstd"),
    Compression("zstd", 1),
    Compression("zstd", 19),
    Compression("uncompressed"),
]


def sample(size: int) -> bytes:
    dice = random.Random(size)
    words = [dice.randbytes(dice.randrange(1, 40)) for _ in range(200)]
    out = bytearray()
    while len(out) < size:
        out += b"".join(dice.choices(words, k=2000))
    return bytes(out[:size])


def compressed(kind: Compression, data: bytes, *, step: int = 1 << 16) -> bytes:
    sink = io.BytesIO()
    writer = compressor(kind, sink)
    for start in range(0, len(data), step):
        part = data[start : start + step]
        assert writer.write(part) == len(part)
    writer.finish()
    return sink.getvalue()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS[:1] + KINDS[7:8] + KINDS[-1:], ids=lambda kind: kind.key)
def test_round_trip(kind: Compression, size: int) -> None:
    data = sample(size)
    with open_compressed(io.BytesIO(compressed(kind, data))) as plain:
        assert plain.read() == data


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.key)
def test_every_level(kind: Compression) -> None:
    data = sample(2 * MIB + 5)
    packed = compressed(kind, data)
    assert open_compressed(io.BytesIO(packed)).read() == data
    if kind.type != "uncompressed":
        assert len(packed) < len(data)


def crc32c(word: int) -> int:
    for _ in range(32):
        word = (word >> 1) ^ (0x82F63B78 if word & 1 else 0)
    return word


def a_word_per_slot(slots: int) -> list[int]:
    """Give words of 32 bits, one for each slot of isal's table of hashes (linear in GF(2))."""
    leading: dict[int, int] = {}
    words = [0]
    for bit in range(32):
        word = 1 << bit
        slot = crc32c(word) % slots
        while slot and slot.bit_length() in leading:
            slot ^= leading[slot.bit_length()]
        if slot:
            leading[slot.bit_length()] = slot
            words += [other ^ word for other in words]
    assert len({crc32c(word) % slots for word in words}) == slots
    return words


@pytest.mark.parametrize(("level", "slots"), [(1, 1 << 13), (2, 1 << 15)])
def test_gzip_does_not_depend_on_addresses(level: int, slots: int) -> None:
    """isal took the hash of byte 2 from an address: in one of its slots matches were missed.

    Each thread has memory elsewhere; whichever slot it is there, one of the words has it.
    """
    rest = random.Random(7).randbytes(508)
    blocks = [2 * (word.to_bytes(4, "little") + rest) for word in a_word_per_slot(slots)]
    member = gzip_member(level)
    together = threading.Barrier(3)

    def members() -> list[bytes]:
        together.wait(timeout=60)
        return [member(memoryview(block)) for block in blocks]

    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(members) for _ in range(3)]
        found = zip(*(run.result() for run in runs), strict=True)
        assert sum(len(set(same)) > 1 for same in found) == 0


@pytest.mark.parametrize("size", SIZES)
def test_gzip_is_read_by_all(size: int) -> None:
    data = sample(size)
    packed = compressed(Compression(), data)
    assert gzip.decompress(packed) == data
    subprocess.run(["gzip", "-t"], input=packed, check=True)
    # Member by member with zlib, which checks the trailers.
    members = 0
    found, rest = b"", packed
    while rest:
        reader = zlib.decompressobj(16 + zlib.MAX_WBITS)
        found += reader.decompress(rest)
        assert reader.eof
        rest = reader.unused_data
        members += 1
    assert found == data
    assert members == max(1, -(-size // MIB))


@pytest.mark.parametrize("size", SIZES)
def test_zstd_is_read_by_its_library(size: int) -> None:
    data = sample(size)
    packed = compressed(Compression("zstd"), data)
    assert zstandard.ZstdDecompressor().stream_reader(packed).read() == data


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.key)
def test_bytes_depend_on_neither_pieces_nor_threads(
    kind: Compression, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = sample(3 * MIB if kind.level == 19 else 9 * MIB + 3)
    wanted = compressed(kind, data)
    for count, step in ((1, 1 << 16), (2, len(data)), (4, 10_007), (16, MIB)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert compressed(kind, data, step=step) == wanted


def test_headers_hold_no_time() -> None:
    packed = compressed(Compression(), b"x")
    assert packed[:10] == bytes.fromhex("1f8b08000000000000ff")


def test_gzip_without_isal(monkeypatch: pytest.MonkeyPatch) -> None:
    data = sample(2 * MIB)
    fast = compressed(Compression(), data)
    monkeypatch.setitem(sys.modules, "isal", None)
    assert gzip.decompress(compressed(Compression(), data)) == data
    assert open_compressed(io.BytesIO(fast)).read() == data


def test_a_failing_sink_is_reported() -> None:
    class Full:
        def write(self, data: bytes) -> int:
            raise OSError("no space left")

    writer = compressor(Compression(), Full())
    with pytest.raises(OSError, match="no space"):
        for _ in range(20):
            writer.write(os.urandom(MIB))
    with pytest.raises(OSError, match="no space"):
        writer.finish()


@settings(max_examples=40, deadline=None)
@given(pieces=st.lists(st.binary(max_size=5000), max_size=6))
def test_any_pieces(pieces: list[bytes]) -> None:
    for kind in (Compression(), Compression("zstd")):
        sink = io.BytesIO()
        writer = compressor(kind, sink)
        for piece in pieces:
            writer.write(piece)
        writer.finish()
        assert open_compressed(io.BytesIO(sink.getvalue())).read() == b"".join(pieces)


_PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "": lambda data: data,
}


@pytest.mark.parametrize("name", _PACKERS)
@pytest.mark.parametrize("size", [0, 5, 300_000])
def test_whatever_an_archive_comes_in(name: str, size: int) -> None:
    data = sample(size)
    packed = _PACKERS[name](data)
    assert sniff(packed) == name
    assert open_compressed(io.BytesIO(packed)).read() == data
    # Two streams behind each other are one; reading starts where the file stands.
    twice = io.BytesIO(b"skip" + packed + packed)
    twice.seek(4)
    reader = open_compressed(twice)
    found = b""
    while part := reader.read(70_000):
        found += part
    assert found == data * 2


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz"])
def test_truncated_streams_are_errors(name: str) -> None:
    packed = _PACKERS[name](sample(100_000))
    with pytest.raises((OSError, EOFError, ValueError)):
        open_compressed(io.BytesIO(packed[:-20])).read()


def test_parse() -> None:
    assert parse_compression("gzip", None) == Compression("gzip")
    assert parse_compression("zstd", "7") == Compression("zstd", 7)
    assert parse_compression("uncompressed", "") == Compression("uncompressed")
    for kind, level in (("brotli", None), ("gzip", "x"), ("gzip", "10"), ("gzip", "-3")):
        with pytest.raises(UserError):
            parse_compression(kind, level)


def test_names() -> None:
    assert [Compression(kind).suffix for kind in ("gzip", "zstd", "uncompressed")] == [
        "+gzip",
        "+zstd",
        "",
    ]
    assert Compression("zstd", 3).key == "zstd:3"
    assert Compression("zstd").key == "zstd"
