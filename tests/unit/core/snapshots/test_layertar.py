"""Layer archives: their exact headers, what readers make of them, and determinism."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torana.core.errors import CorruptError
from torana.core.snapshots import layertar
from torana.core.snapshots.changes import walk_both
from torana.core.snapshots.layertar import write_layer
from torana.core.snapshots.snapshotter import Change, ChangeKind
from torana.core.snapshots.tarstream import TarStream

SECOND = 1_700_000_000


def packed(
    root: Path, changes: Iterable[Change] | None = None, *, latest: int | None = None
) -> bytes:
    sink = io.BytesIO()
    encoded = os.fsencode(root)
    found = walk_both(None, encoded) if changes is None else changes
    write_layer(found, encoded, sink, latest=latest)
    return sink.getvalue()


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive}


def change(path: bytes) -> Change:
    return Change(ChangeKind.DELETE, path, None)


def header(
    name: bytes,
    mode: bytes,
    size: bytes,
    mtime: bytes,
    kind: bytes,
    *,
    link: bytes = b"",
    prefix: bytes = b"",
    devices: bytes = b"0000000\x000000000\x00",
) -> bytes:
    """Put a ustar block together as its specification draws it."""
    block = bytearray(512)
    for offset, field in (
        (0, name),
        (100, mode),
        (108, b"0000000"),
        (116, b"0000000"),
        (124, size),
        (136, mtime),
        (148, b" " * 8),
        (156, kind),
        (157, link),
        (257, b"ustar\x0000"),
        (329, devices),
        (345, prefix),
    ):
        block[offset : offset + len(field)] = field
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def as_root(root: Path) -> None:
    """Make owners of a tree known; without root they are what they are."""
    if os.geteuid() == 0:
        for path in root.rglob("*"):
            os.chown(path, 0, 0, follow_symlinks=False)


def test_an_empty_layer_is_two_blocks(tmp_path: Path) -> None:
    assert packed(tmp_path) == bytes(1024)


@pytest.mark.needs("root")
def test_exact_bytes(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o750)
    (tmp_path / "d" / "f").write_bytes(b"hello")
    (tmp_path / "d" / "f").chmod(0o4644)
    (tmp_path / "l").symlink_to("d/f")
    as_root(tmp_path)
    (tmp_path / "d" / "f").chmod(0o4644)
    for path in ("d/f", "d", "l"):
        os.utime(tmp_path / path, (SECOND, SECOND + 0.75), follow_symlinks=False)
    time = b"%011o" % SECOND
    assert packed(tmp_path) == b"".join(
        (
            header(b"d/", b"0000750", b"00000000000", time, b"5"),
            header(b"d/f", b"0004644", b"00000000005", time, b"0"),
            b"hello".ljust(512, b"\0"),
            header(b"l", b"0000777", b"00000000000", time, b"2", link=b"d/f"),
            bytes(1024),
        )
    )


def test_whiteout(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    data = packed(tmp_path, [change(b"d/gone"), change(b"z")], latest=0)
    found = header(b"d/.wh.gone", b"0000000", b"00000000000", b"00000000000", b"0")
    assert data[512:1024] == found
    assert list(members(data)) == ["d", "d/.wh.gone", ".wh.z"]


def test_whiteout_with_a_long_path_uses_the_prefix(tmp_path: Path) -> None:
    folder = "d" * 120
    (tmp_path / folder).mkdir()
    data = packed(tmp_path, [change(os.fsencode(folder) + b"/gone")])
    expected = header(b".wh.gone", b"0000000", b"0" * 11, b"0" * 11, b"0", prefix=folder.encode())
    assert data[-1536:-1024] == expected
    assert list(members(data)) == [folder, f"{folder}/.wh.gone"]


def test_whiteout_that_fits_in_no_ustar_header(tmp_path: Path) -> None:
    data = packed(tmp_path, [change(b"g" * 120), change(b"\xff")])
    names = [entry.name for entry in TarStream(io.BytesIO(data))]
    assert names == [b".wh." + b"g" * 120, b".wh.\xff"]


def test_unchanged_parents_come_once_before_the_first_child(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "f").touch()
    (tmp_path / "a" / "c").touch()
    paths = (b"a/b/f", b"a/c")
    changes = [Change(ChangeKind.ADD, p, os.fsencode(tmp_path) + b"/" + p) for p in paths]
    changes.insert(1, change(b"a/b/gone"))
    assert list(members(packed(tmp_path, changes))) == [
        "a",
        "a/b",
        "a/b/f",
        "a/b/.wh.gone",
        "a/c",
    ]


@pytest.mark.parametrize("length", [98, 99, 100, 101, 155, 255])
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_long_names(tmp_path: Path, length: int, kind: str) -> None:
    name = "n" * length
    if kind == "file":
        (tmp_path / name).write_text("x")
    elif kind == "folder":
        (tmp_path / name).mkdir()
    else:
        (tmp_path / "l").symlink_to(name)
    (found,) = members(packed(tmp_path)).values()
    assert (found.linkname if kind == "link" else found.name) == name
    in_header = length + (kind == "folder") <= 100
    assert ("path" in found.pax_headers) == (not in_header and kind != "link")
    assert ("linkpath" in found.pax_headers) == (not in_header and kind == "link")


def test_a_deep_path(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*(["folder"] * 60))
    folder.mkdir(parents=True)
    (folder / "f").write_text("deep")
    data = packed(tmp_path)
    assert "/".join(["folder"] * 60 + ["f"]) in members(data)


def test_a_cut_name_does_not_look_like_a_folder(tmp_path: Path) -> None:
    folder = "d" * 99
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "f").write_text("x")
    data = packed(tmp_path)
    entry = data.rindex(b"ustar\x0000") - 257
    assert data[entry : entry + 100] == folder.encode() + b"\0"
    assert f"{folder}/f" in members(data)


def test_names_that_are_not_ascii(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    for name in ("grün".encode(), b"\xff\xfe", b"new\nline"):
        with open(root + b"/" + name, "wb"):
            pass
    os.symlink(b"\xff", root + b"/zlink")
    entries = list(TarStream(io.BytesIO(packed(tmp_path))))
    assert [entry.name for entry in entries] == [
        "grün".encode(),
        b"new\nline",
        b"zlink",
        b"\xff\xfe",
    ]
    assert entries[2].linkname == b"\xff"
    data = packed(tmp_path)
    assert b" path=gr\xc3\xbcn\n" in data
    assert data.startswith(b"PaxHeaders.0/grn\0")


def test_hard_links(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("data")
    (tmp_path / "d").mkdir()
    os.link(tmp_path / "a", tmp_path / "d" / "b")
    os.symlink("x", tmp_path / "s")
    os.link(tmp_path / "s", tmp_path / "t", follow_symlinks=False)
    found = members(packed(tmp_path))
    assert found["a"].isreg()
    assert (found["d/b"].islnk(), found["d/b"].linkname, found["d/b"].size) == (True, "a", 0)
    assert found["s"].issym()
    assert (found["t"].islnk(), found["t"].linkname) == (True, "s")


def test_fifos_stay_and_sockets_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("p", 0o640)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
    found = members(packed(tmp_path))
    assert list(found) == ["p"]
    assert found["p"].isfifo()


@pytest.mark.needs("root")
def test_devices_big_ids_and_capabilities(tmp_path: Path) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    os.mknod(tmp_path / "disk", 0o60660, os.makedev(259, 70_000))
    (tmp_path / "f").touch()
    os.chown(tmp_path / "f", 3_000_000, 4_000_000)
    os.setxattr(tmp_path / "f", "security.capability", capability)
    os.setxattr(tmp_path / "f", "user.other", b"is not kept")
    data = packed(tmp_path)
    disk, file = TarStream(io.BytesIO(data))
    assert (disk.kind, disk.device) == (b"4", (259, 70_000))
    assert (file.uid, file.gid) == (3_000_000, 4_000_000)
    assert file.xattrs == {"security.capability": capability}


def test_times(tmp_path: Path) -> None:
    for name, time_ns in (("old", -1_500_000_000), ("new", SECOND * 10**9 + 999_999_999)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, ns=(0, time_ns))
    found = members(packed(tmp_path))
    assert (found["old"].mtime, found["new"].mtime) == (-2, SECOND)
    clamped = members(packed(tmp_path, latest=SECOND - 1))
    assert (clamped["old"].mtime, clamped["new"].mtime) == (-2, SECOND - 1)
    assert all(set(m.pax_headers) <= {"mtime"} for m in found.values())


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 1 << 18, (1 << 18) + 1, (3 << 20) + 7])
def test_sizes(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "f").write_bytes(content)
    (tmp_path / "g").write_text("after")
    data = packed(tmp_path)
    assert len(data) % 512 == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for name, expected in (("f", content), ("g", b"after")):
            file = archive.extractfile(name)
            assert file is not None
            assert file.read() == expected


class _Counting:
    """Keeps the first bytes and where others than zero were; the rest is counted."""

    def __init__(self) -> None:
        self.head = b""
        self.size = 0
        self.seen: dict[int, bytes] = {}

    def write(self, data: bytes) -> int:
        if len(self.head) < 4096:
            self.head += data[:4096]
        if any(data[:64]) or data.count(0) != len(data):
            self.seen[self.size] = data.strip(b"\0")
        self.size += len(data)
        return len(data)


def test_a_sparse_file_beyond_two_gigabytes(tmp_path: Path) -> None:
    with open(tmp_path / "s", "wb") as file:
        file.seek(1 << 30)
        file.write(b"middle")
        file.truncate((1 << 31) + 1)
    sink = _Counting()
    write_layer(walk_both(None, os.fsencode(tmp_path)), os.fsencode(tmp_path), sink)
    assert sink.size == 512 + (1 << 31) + 512 + 1024
    assert b"%011o" % ((1 << 31) + 1) in sink.head
    assert list(sink.seen.values())[1:] == [b"middle"]


def test_a_size_of_more_than_eight_gibibytes() -> None:
    block = layertar.tar_header(
        b"big", b"0", mode=0o644, size=9 << 30, uid=0, gid=0, mtime=0, linkname=b"",
        device=None, capability=None,
    )  # fmt: skip
    assert b"19 size=9663676416\n" in block
    with tarfile.open(fileobj=io.BytesIO(block + bytes(1024)), mode="r|") as archive:
        found = archive.next()
        assert found is not None
        assert found.size == 9 << 30


def test_a_file_that_became_shorter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_text("data")
    real = os.lstat

    def longer(path: bytes) -> os.stat_result:
        values = list(real(path))
        values[6] += 1
        return os.stat_result(values, {"st_mtime_ns": 0, "st_blocks": 8, "st_rdev": 0})

    monkeypatch.setattr("torana.core.snapshots.layertar.os.lstat", longer)
    with pytest.raises(CorruptError, match="became shorter"):
        packed(tmp_path, [Change(ChangeKind.ADD, b"f", os.fsencode(tmp_path / "f"))])


def test_the_same_tree_gives_the_same_bytes(tmp_path: Path) -> None:
    trees = []
    for name, order in (("one", "abc"), ("two", "cba")):
        root = tmp_path / name
        root.mkdir()
        for letter in order:
            (root / letter).write_text(letter)
        for letter in "abc":
            os.utime(root / letter, (1, 1))
        trees.append(packed(root))
    assert trees[0] == trees[1]


def test_the_order_of_entries_is_that_of_bytes_per_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("a/z", "a-b", "a.b", "B"):
        (tmp_path / name).touch()
    assert list(members(packed(tmp_path))) == ["B", "a", "a/z", "a-b", "a.b"]


@pytest.mark.needs("tar")
def test_gnu_tar_reads_it(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / ("n" * 200)).write_text("long")
    (root / "grün").write_text("utf-8")
    os.link(root / "grün", root / "linked")
    (tmp_path / "layer.tar").write_bytes(packed(root))
    listing = subprocess.run(
        ["tar", "--utc", "-tvf", tmp_path / "layer.tar"],
        check=True,
        capture_output=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    assert not listing.stderr
    assert b"linked link to gr" in listing.stdout
    assert b"n" * 200 in listing.stdout


@given(key=st.binary(min_size=1, max_size=40), value=st.binary(max_size=10_100))
def test_the_length_of_a_record_counts_itself(key: bytes, value: bytes) -> None:
    record = layertar.pax_record(key, value)
    assert int(record.partition(b" ")[0]) == len(record)
