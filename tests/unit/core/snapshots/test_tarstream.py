"""Reading tars: what GNU tar and `tarfile` write, and archives that are damaged."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torana.core.errors import CorruptError
from torana.core.snapshots.tarstream import FOLDER, LINK, REGULAR, SYMLINK, Entry, TarStream


class Dribble:
    """Gives a few bytes at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        self.file = io.BytesIO(data)
        self.step = step

    def read(self, size: int) -> bytes:
        return self.file.read(min(size, self.step))


def written(tmp_path: Path, stream: TarStream) -> list[tuple[Entry, bytes]]:
    found = []
    for entry in stream:
        with open(tmp_path / "out", "w+b", buffering=0) as file:
            if entry.kind == REGULAR:
                stream.copy_to(file.fileno(), entry)
            file.seek(0)
            found.append((entry, file.read()))
    return found


def archive(*members: tarfile.TarInfo, format_: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format_) as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return out.getvalue()


def member(name: str, **values: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for key, value in values.items():
        setattr(made, key, value)
    return made


FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("step", [1, 100, 512, 10_000])
def test_formats(tmp_path: Path, format_: str, step: int) -> None:
    data = archive(
        member("d", type=tarfile.DIRTYPE, mode=0o1777, mtime=5),
        member("d/" + "n" * 90, size=700, uid=1000, gid=1001),
        member("p" * 60 + "/" + "q" * 90, size=512),
        member("s", type=tarfile.SYMTYPE, linkname="d"),
        member("h", type=tarfile.LNKTYPE, linkname="d/" + "n" * 90),
        member("c", type=tarfile.CHRTYPE, devmajor=1, devminor=300),
        format_=FORMATS[format_],
    )
    found = written(tmp_path, TarStream(Dribble(data, step)))
    entries = [entry for entry, _ in found]
    assert [e.name.rstrip(b"/") for e in entries] == [
        b"d",
        b"d/" + b"n" * 90,
        b"p" * 60 + b"/" + b"q" * 90,
        b"s",
        b"h",
        b"c",
    ]
    assert [e.kind for e in entries] == [FOLDER, REGULAR, REGULAR, SYMLINK, LINK, b"3"]
    assert (entries[0].mode, entries[0].mtime_ns) == (0o1777, 5_000_000_000)
    assert (entries[1].uid, entries[1].gid, found[1][1]) == (1000, 1001, b"x" * 700)
    assert found[2][1] == b"x" * 512
    assert entries[4].linkname == b"d/" + b"n" * 90
    assert entries[5].device == (1, 300)


@pytest.mark.parametrize("format_", ["gnu", "pax"])
def test_what_no_ustar_header_holds(format_: str) -> None:
    data = archive(
        member("n" * 300, uid=5_000_000, mtime=-3),
        member("l", type=tarfile.SYMTYPE, linkname="t" * 400),
        member("after"),
        format_=FORMATS[format_],
    )
    first, second, third = TarStream(io.BytesIO(data))
    assert (first.name, first.uid, first.mtime_ns) == (b"n" * 300, 5_000_000, -3_000_000_000)
    assert second.linkname == b"t" * 400
    assert (third.name, third.linkname, third.uid) == (b"after", b"", 0)


def test_pax_times_xattrs_and_names() -> None:
    data = archive(
        member(
            "f",
            mtime=1.25,
            pax_headers={
                "atime": "1700000000.000000007",
                "SCHILY.xattr.user.k": "v=w",
                "ctime": "1",
                "comment": "ignored",
            },
        ),
        member("old", mtime=-1.5),
    )
    first, second = TarStream(io.BytesIO(data))
    assert (first.mtime_ns, first.atime_ns) == (1_250_000_000, 1_700_000_000_000_000_007)
    assert first.xattrs == {"user.k": b"v=w"}
    assert (second.mtime_ns, second.atime_ns, second.xattrs) == (-1_500_000_000, None, {})


def test_global_records_hold_for_all() -> None:
    out = io.BytesIO()
    with tarfile.open(
        fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"uid": "77"}
    ) as tar:
        tar.addfile(member("a"))
        tar.addfile(member("b"))
    assert [entry.uid for entry in TarStream(io.BytesIO(out.getvalue()))] == [77, 77]


def test_data_that_nobody_reads_is_skipped() -> None:
    data = archive(member("a", size=3000), member("b", size=1), member("c"))
    assert [entry.name for entry in TarStream(Dribble(data, 333))] == [b"a", b"b", b"c"]


def test_the_stream_is_read_to_its_end() -> None:
    file = io.BytesIO(archive(member("a")) + b"whatever" * 100_000)
    assert len(list(TarStream(file))) == 1
    assert file.read() == b""


def test_an_archive_without_its_trailer() -> None:
    data = archive(member("a", size=512))[:1024]
    assert [entry.name for entry in TarStream(io.BytesIO(data))] == [b"a"]
    assert list(TarStream(io.BytesIO(b""))) == []


def test_old_folders_and_contiguous_files() -> None:
    data = archive(
        member("d/", type=tarfile.AREGTYPE),
        member("f", type=tarfile.AREGTYPE, size=3),
        member("c", type=tarfile.CONTTYPE, size=3),
        format_=tarfile.GNU_FORMAT,
    )
    assert [e.kind for e in TarStream(io.BytesIO(data))] == [FOLDER, REGULAR, REGULAR]


@pytest.mark.needs("tar")
@pytest.mark.parametrize(
    "options",
    [
        ["--format=gnu"],
        ["--format=oldgnu"],
        ["--format=pax", "--sparse-version=1.0"],
        ["--format=pax", "--sparse-version=0.1"],
        ["--format=pax", "--sparse-version=0.0"],
    ],
    ids=" ".join,
)
def test_sparse_files(tmp_path: Path, options: list[str]) -> None:
    with open(tmp_path / "s", "wb") as file:
        for number in range(40):  # more pieces than one header holds
            file.seek(number << 17)
            file.write(b"piece %d" % number)
        file.truncate(8 << 20)
    (tmp_path / "t").write_text("after")
    tar = ["tar", "-S", *options, "-C", str(tmp_path), "-cf", str(tmp_path / "a.tar"), "s", "t"]
    subprocess.run(tar, check=True)
    assert (tmp_path / "a.tar").stat().st_size < 1 << 20
    with open(tmp_path / "a.tar", "rb") as file:
        (sparse, content), (_, after) = written(tmp_path, TarStream(file))
    assert (sparse.name, sparse.size) == (b"s", 8 << 20)
    assert content == (tmp_path / "s").read_bytes()
    assert after == b"after"


def damaged(data: bytes, offset: int, value: bytes) -> bytes:
    """Change bytes of the first header and set its checksum right."""
    block = bytearray(data[:512])
    block[offset : offset + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + data[512:]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no archive at all".ljust(512, b"!"), "malformed number|wrong checksum"),
        (b"short", "unexpected end"),
        (archive(member("a", size=2000))[:1500], "unexpected end"),
        (damaged(archive(member("a")), 124, b"0000000000z"), "malformed number"),
        (damaged(archive(member("a")), 124, b"\xff" * 12), "negative size"),
        (damaged(archive(member("a")), 156, b"x"), None),
        (damaged(archive(member("a", size=2 << 20)), 156, b"x"), "extended header of 2097152"),
        (damaged(archive(member("a", size=1 << 10)), 156, b"x"), "pax record|malformed"),
        (archive(member("a", pax_headers={"size": "-1"})), "negative"),
        (archive(member("a", pax_headers={"GNU.sparse.map": "0,999"})), "too little data"),
    ],
)
def test_damage(tmp_path: Path, data: bytes, message: str | None) -> None:
    if message is None:
        assert list(TarStream(io.BytesIO(data))) == []
        return
    with pytest.raises(CorruptError, match=message):
        written(tmp_path, TarStream(io.BytesIO(data)))


@given(data=st.data())
def test_no_damage_makes_it_crash(data: st.DataObject) -> None:
    whole = bytearray(
        archive(
            member("d", type=tarfile.DIRTYPE),
            member("n" * 150, size=600, pax_headers={"SCHILY.xattr.user.k": "v"}),
            member("s", type=tarfile.SYMTYPE, linkname="t" * 150),
            format_=data.draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])),
        )
    )
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, 4000))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    stream = TarStream(io.BytesIO(bytes(whole[:cut])))
    file = os.memfd_create("out")
    try:
        for entry in stream:
            if entry.kind == REGULAR and entry.size < 1 << 20:
                stream.copy_to(file, entry)
    except (CorruptError, OSError):
        pass
    finally:
        os.close(file)
