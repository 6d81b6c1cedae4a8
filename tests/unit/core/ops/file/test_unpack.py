"""Archives: what is one, and that none of them gets out."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from torana.core.llb.ops import Copy
from torana.core.ops.file.copy import copy
from torana.core.ops.file.errors import FileActionError
from torana.core.ops.file.owner import Owner
from torana.core.ops.file.root import Root

TIME = 1_500_000_000
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", **fields: int
) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mtime = kind, link, TIME
    made.uid, made.gid = os.geteuid(), os.getegid()
    made.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def archive(*entries: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for item in entries:
            info, data = item if isinstance(item, tuple) else (item, b"")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture
def dst(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "dst").mkdir()
    return tmp_path / "dst"


def run(dst: Path, data: bytes, dest: str = "/o", owner: Owner | None = None) -> None:
    source = dst.parent / "src"
    source.mkdir(exist_ok=True)
    (source / "a.tar").write_bytes(data)
    action = Copy(
        src="/a.tar",
        dest=dest,
        mode=0o700,
        timestamp=-1,
        create_dest_path=True,
        attempt_unpack=True,
    )
    with Root(source) as source_root, Root(dst) as target_root:
        copy(action, source_root, target_root, owner)
    assert os.listdir(dst.parent / "outside") == []


@pytest.mark.parametrize("kind", PACKERS)
def test_archives_are_extracted(dst: Path, kind: str) -> None:
    data = archive(
        entry("d/", tarfile.DIRTYPE, mode=0o711),
        (entry("d/f", mode=0o4755), b"content"),
        entry("d/h", tarfile.LNKTYPE, "d/f"),
        entry("d/l", tarfile.SYMTYPE, "../../x"),
        (entry("deep/er/.wh.f"), b"plain"),
    )
    run(dst, PACKERS[kind](data))
    top = dst / "o"
    assert (top / "d/f").read_bytes() == b"content"
    assert (top / "d/f").samefile(top / "d/h")
    assert os.readlink(top / "d/l") == "../../x"
    assert (top / "deep/er/.wh.f").read_bytes() == b"plain"
    for path, mode in ((top, 0o755), (top / "d", 0o711), (top / "d/f", 0o4755)):
        assert stat.S_IMODE(path.stat().st_mode) == mode
    for path in (top / "d", top / "d/f", top / "d/l"):
        assert path.lstat().st_mtime == TIME


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        b"\0" * 1024,
        gzip.compress(b"text", mtime=0),
        b"\x1f\x8b broken",
        b"BZh",
        b"x" * 600,
    ],
)
def test_what_is_no_archive_is_copied(dst: Path, data: bytes) -> None:
    run(dst, data, "/o/")
    assert (dst / "o/a.tar").read_bytes() == data
    assert stat.S_IMODE((dst / "o/a.tar").stat().st_mode) == 0o700


def test_entries_replace_what_is_there_and_directories_unite(dst: Path) -> None:
    for name in ("o/d/kept", "o/f/gone", "o/x"):
        (dst / name).parent.mkdir(parents=True, exist_ok=True)
        (dst / name).write_text("old")
    run(
        dst,
        archive(
            entry("d", tarfile.DIRTYPE), (entry("f"), b"new"), entry("x", tarfile.DIRTYPE),
            entry("./", tarfile.DIRTYPE, mode=0o700),
        ),
    )  # fmt: skip
    assert (dst / "o/d/kept").read_text() == "old"
    assert (dst / "o/f").read_text() == "new"
    assert (dst / "o/x").is_dir()
    assert stat.S_IMODE((dst / "o").stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["../../outside/f", "/../../outside/f", "d/../../../outside/f"])
def test_names_stay_inside(dst: Path, name: str) -> None:
    run(dst, archive((entry(name), b"x")))
    assert (dst / "o/outside/f").read_text() == "x"


@pytest.mark.parametrize("target", ["../../outside", "{outside}", "../../../../../../../{outside}"])
def test_links_do_not_lead_out(dst: Path, target: str) -> None:
    link = target.format(outside=dst.parent / "outside")
    run(dst, archive(entry("l", tarfile.SYMTYPE, link), (entry("l/f"), b"x")))
    found = [p for p in (dst / "o").rglob("f") if not p.is_symlink()]
    assert [p.read_text() for p in found] == ["x"]


def test_hard_links_do_not_lead_out(dst: Path) -> None:
    (dst.parent / "secret").write_text("s")
    with pytest.raises(FileActionError, match="missing entry"):
        run(dst, archive(entry("h", tarfile.LNKTYPE, "../../secret")))
    link = entry("l", tarfile.SYMTYPE, str(dst.parent / "secret"))
    run(dst, archive(link, entry("h", tarfile.LNKTYPE, "l"), (entry("h"), b"x")))
    assert (dst.parent / "secret").read_text() == "s"


def test_damage_after_the_first_header_is_an_error(dst: Path) -> None:
    data = archive((entry("f"), os.urandom(5000)))
    with pytest.raises(FileActionError, match=r"failed to unpack /a\.tar"):
        run(dst, data[:3000])
    with pytest.raises(FileActionError, match=r"failed to unpack /a\.tar"):
        run(dst, gzip.compress(data)[:3000])


@pytest.mark.needs("root")
def test_owners_and_devices(dst: Path) -> None:
    data = archive(
        (entry("f", uid=1000, gid=1001), b"x"),
        entry("null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        entry("pipe", tarfile.FIFOTYPE),
    )
    run(dst, data)
    status = (dst / "o/f").stat()
    assert (status.st_uid, status.st_gid) == (1000, 1001)
    device = (dst / "o/null").lstat()
    assert stat.S_ISCHR(device.st_mode)
    assert device.st_rdev == os.makedev(1, 3)
    assert stat.S_ISFIFO((dst / "o/pipe").lstat().st_mode)
    run(dst, data, "/p", (7, 8))
    for path in (dst / "p", dst / "p/f", dst / "p/null"):
        assert (path.lstat().st_uid, path.lstat().st_gid) == (7, 8)
