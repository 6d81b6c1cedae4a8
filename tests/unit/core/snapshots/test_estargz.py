"""eStargz: an ordinary gzip of the same tar, with a table by which files can be read alone."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torana.core.errors import CorruptError, UnsupportedError
from torana.core.snapshots.estargz import SIZE_ANNOTATION, TOC_ANNOTATION, EstargzWriter

FORMATS = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
CHUNK = 4 << 20


def member(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    made = tarfile.TarInfo(name)
    made.size = len(data)
    for key, value in fields.items():
        setattr(made, key, value)
    return made, data


def packed(contents: list[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for each, data in contents:
            archive.addfile(each, io.BytesIO(data))
    return out.getvalue()


def compressed(plain: bytes, step: int = 1 << 16) -> tuple[bytes, dict[str, str]]:
    """Compress, and check what is told of the result."""
    out = io.BytesIO()
    writer = EstargzWriter(out, None)
    for start in range(0, len(plain), step):
        writer.write(plain[start : start + step])
    diff_id, notes = writer.finish()
    whole = gzip.decompress(out.getvalue())
    assert str(diff_id) == f"sha256:{hashlib.sha256(whole).hexdigest()}"
    assert notes[SIZE_ANNOTATION] == str(len(whole))
    return out.getvalue(), notes


def table(blob: bytes, notes: dict[str, str]) -> list[dict[str, Any]]:
    """Find the table as readers do, by the last 51 bytes."""
    footer = blob[-51:]
    assert gzip.decompress(footer) == b""
    match = re.search(rb"SG\x16\x00([0-9a-f]{16})STARGZ", footer)
    assert match is not None
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob[int(match[1], 16) :]))) as archive:
        (entry,) = archive.getmembers()
        assert entry.name == "stargz.index.json"
        file = archive.extractfile(entry)
        assert file is not None
        raw = file.read()
    assert notes[TOC_ANNOTATION] == f"sha256:{hashlib.sha256(raw).hexdigest()}"
    found = json.loads(raw)
    assert found["version"] == 1
    entries: list[dict[str, Any]] = found["entries"]
    return entries


def read_alone(blob: bytes, entries: list[dict[str, Any]], name: str) -> bytes:
    """Read a file by the table only."""
    file = next(each for each in entries if each["name"] == name)
    chunks = [each for each in entries if each["name"] == name and "offset" in each]
    data = b""
    for number, chunk in enumerate(chunks):
        rest = zlib.decompressobj(31).decompress(blob[chunk["offset"] :])
        size = chunk.get("chunkSize") or file["size"] - chunk.get("chunkOffset", 0)
        piece = rest[:size]
        assert chunk.get("chunkOffset", 0) == len(data)
        assert chunk["type"] == ("chunk" if number else "reg")
        assert chunk["chunkDigest"] == f"sha256:{hashlib.sha256(piece).hexdigest()}"
        data += piece
    assert file["digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
    return data


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.text("abü/", min_size=1, max_size=160), st.binary(max_size=1200), max_size=4
    ),
    st.integers(1, 3000),
    FORMATS,
)
def test_every_file_can_be_read_alone(files: dict[str, bytes], step: int, form: int) -> None:
    if form == tarfile.USTAR_FORMAT:  # it has no long names
        files = {f"n{number}": data for number, data in enumerate(files.values())}
    files = {f"x{name}x": data for name, data in files.items()}
    plain = packed([member(*each) for each in files.items()], form)
    blob, notes = compressed(plain, step)
    end = plain.rstrip(b"\0")
    assert gzip.decompress(blob).startswith(end)
    entries = table(blob, notes)
    assert [each["name"] for each in entries] == list(files)
    for name, data in files.items():
        assert read_alone(blob, entries, name) == data


def test_large_files_have_several_pieces() -> None:
    data = bytes(range(256)) * (2 * CHUNK // 256) + b"rest"
    blob, notes = compressed(packed([member("big", data), member("even", data[:CHUNK])]))
    entries = table(blob, notes)
    assert [each.get("chunkSize") for each in entries] == [CHUNK, CHUNK, None, CHUNK]
    assert read_alone(blob, entries, "big") == data
    assert read_alone(blob, entries, "even") == data[:CHUNK]


def test_all_kinds_of_entries() -> None:
    contents = [
        member("d/", type=tarfile.DIRTYPE, mode=0o755, mtime=1_700_000_000),
        member("d/f", b"x", uid=1, gid=2, mode=0o4711,
               pax_headers={"SCHILY.xattr.user.a": "b"}),
        member("d/empty"),
        member("d/hard", type=tarfile.LNKTYPE, linkname="d/f"),
        member("d/soft", type=tarfile.SYMTYPE, linkname="f"),
        member("d/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
        member("d/pipe", type=tarfile.FIFOTYPE),
    ]  # fmt: skip
    blob, notes = compressed(packed(contents))
    entries = {each["name"]: each for each in table(blob, notes)}
    assert entries["d/"] == {
        "name": "d/", "type": "dir", "modtime": "2023-11-14T22:13:20Z", "mode": 0o755,
    }  # fmt: skip
    file = entries["d/f"]
    assert (file["type"], file["size"], file["uid"], file["gid"]) == ("reg", 1, 1, 2)
    assert (file["mode"], file["xattrs"]) == (0o4711, {"user.a": "Yg=="})
    empty = entries["d/empty"]
    assert empty["digest"] == f"sha256:{hashlib.sha256().hexdigest()}"
    assert "offset" not in empty
    assert (entries["d/hard"]["type"], entries["d/hard"]["linkName"]) == ("hardlink", "d/f")
    assert (entries["d/soft"]["type"], entries["d/soft"]["linkName"]) == ("symlink", "f")
    assert (entries["d/null"]["devMajor"], entries["d/null"]["devMinor"]) == (1, 3)
    assert entries["d/pipe"]["type"] == "fifo"


def test_the_table_of_an_earlier_one_does_not_stay() -> None:
    plain = packed([member("f", b"x")])
    first, notes = compressed(plain)
    again = compressed(gzip.decompress(first))
    assert again == (first, notes)
    inside = packed([member("f", b"x"), member("stargz.index.json", b"{}"), member("g")])
    entries = table(*compressed(inside))
    assert [each["name"] for each in entries] == ["f", "g"]


def test_what_is_no_tar() -> None:
    with pytest.raises(CorruptError):
        compressed(b"no tar at all" * 100)
    with pytest.raises(CorruptError, match="unexpected end"):
        compressed(packed([member("f", b"x" * 2000)])[:1500])
    sparse = member("f", pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "9"})
    with pytest.raises(UnsupportedError, match="no entries of this kind: `f`"):
        compressed(packed([sparse]))
