"""Applying layers: whiteouts, replacement, metadata, and archives that try to get out."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from torana.core.errors import CorruptError
from torana.core.snapshots.extract import apply_layer
from torana.core.snapshots.rootfs import RootFolder

SECOND = 1_700_000_000


def folder(name: str, **values: object) -> tarfile.TarInfo:
    made = member(name, **values)
    made.type = tarfile.DIRTYPE
    made.mode = made.mode if "mode" in values else 0o755
    return made


def link(name: str, target: str) -> tarfile.TarInfo:
    return member(name, type=tarfile.LNKTYPE, linkname=target)


def symlink(name: str, target: str) -> tarfile.TarInfo:
    return member(name, type=tarfile.SYMTYPE, linkname=target, mode=0o777)


def member(name: str, content: str = "", /, **values: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size = len(content)
    made.uid, made.gid = os.geteuid(), os.getegid()
    made.pax_headers = {"comment": content}  # carries the content to `layer`
    for key, value in values.items():
        setattr(made, key, value)
    return made


def layer(*members: tarfile.TarInfo) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for entry in members:
            content = entry.pax_headers.get("comment", "") if entry.isreg() else ""
            tar.addfile(entry, io.BytesIO(content.encode()))
    out.seek(0)
    return out


def names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A lower tree, beside a file that no layer may reach."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    root = tmp_path / "root"
    (root / "d" / "inner").mkdir(parents=True)
    for name in ("d/x", "d/y", "d/inner/z", "f"):
        (root / name).write_text("lower")
    (root / "lib").symlink_to("d")
    (root / "away").symlink_to(tmp_path / "outside")
    return root


LOWER = ["away", "d", "d/inner", "d/inner/z", "d/x", "d/y", "f", "lib"]


def test_nothing(root: Path) -> None:
    apply_layer(layer(), root)
    assert names(root) == LOWER


def test_files_folders_and_links(root: Path) -> None:
    apply_layer(
        layer(
            folder("new", mode=0o2750, mtime=SECOND),
            member("new/file", "content", mode=0o4711, mtime=SECOND),
            symlink("new/soft", "../f"),
            link("new/hard", "new/file"),
            member("new/pipe", type=tarfile.FIFOTYPE, mode=0o600),
        ),
        root,
    )
    new = root / "new"
    assert (new / "file").read_text() == "content"
    assert stat.S_IMODE((new / "file").stat().st_mode) == 0o4711
    assert stat.S_IMODE(new.stat().st_mode) == 0o2750
    assert os.path.samefile(new / "file", new / "hard")
    assert os.readlink(new / "soft") == "../f"
    assert stat.S_ISFIFO((new / "pipe").stat().st_mode)
    # Of directories, too, though files were made in it after it.
    assert new.stat().st_mtime == (new / "file").stat().st_mtime == SECOND


def test_times_below_the_second_and_access_times(root: Path) -> None:
    entry = member("t", mtime=SECOND + 0.5, pax_headers={"atime": "7.000000009"})
    apply_layer(layer(entry, symlink("s", "x")), root)
    status = (root / "t").stat()
    assert (status.st_mtime_ns, status.st_atime_ns) == (SECOND * 10**9 + 5 * 10**8, 7_000_000_009)
    assert os.lstat(root / "s").st_mtime == 0


@pytest.mark.parametrize(
    ("entry", "left"),
    [
        (".wh.f", ["away", "d", "d/inner", "d/inner/z", "d/x", "d/y", "lib"]),
        (".wh.d", ["away", "f", "lib"]),
        (".wh.lib", ["away", "d", "d/inner", "d/inner/z", "d/x", "d/y", "f"]),
        (".wh.away", ["d", "d/inner", "d/inner/z", "d/x", "d/y", "f", "lib"]),
        ("d/.wh.inner", ["away", "d", "d/x", "d/y", "f", "lib"]),
        ("lib/.wh.x", ["away", "d", "d/inner", "d/inner/z", "d/y", "f", "lib"]),
        ("d/.wh..wh..opq", ["away", "d", "f", "lib"]),
        ("./d/.wh.x", ["away", "d", "d/inner", "d/inner/z", "d/y", "f", "lib"]),
        (".wh.missing", LOWER),
        ("missing/.wh.x", LOWER),
        ("f/.wh.x", LOWER),
        (".wh..wh.plnk", LOWER),
        ("d/.wh.", LOWER),
        ("d/.wh..", LOWER),
        ("d/.wh...", LOWER),
        ("away/.wh.secret", LOWER),
        ("away/.wh..wh..opq", LOWER),
    ],
)
def test_whiteouts(root: Path, tmp_path: Path, entry: str, left: list[str]) -> None:
    apply_layer(layer(member(entry)), root)
    assert names(root) == left
    assert (tmp_path / "outside" / "secret").read_text() == "secret"


@pytest.mark.parametrize("is_first", [True, False])
def test_an_opaque_marker_spares_what_the_layer_brings(root: Path, is_first: bool) -> None:
    marker = [member("d/.wh..wh..opq")]
    brought = [folder("d"), member("d/y", "upper"), folder("d/inner"), member("d/inner/n", "upper")]
    apply_layer(layer(*(marker + brought if is_first else brought + marker)), root)
    assert names(root / "d") == ["inner", "inner/n", "y"]
    assert (root / "d" / "y").read_text() == "upper"


@pytest.mark.parametrize("is_first", [True, False])
def test_a_whiteout_spares_what_the_layer_brings(root: Path, is_first: bool) -> None:
    whiteout = [member(".wh.d"), member(".wh.f")]
    brought = [folder("d"), member("d/n", "upper"), member("f", "upper")]
    apply_layer(layer(*(whiteout + brought if is_first else brought + whiteout)), root)
    assert names(root) == ["away", "d", "d/n", "f", "lib"]


def test_types_replace_each_other(root: Path) -> None:
    (root / "d" / "l").symlink_to("x")
    apply_layer(
        layer(
            member("d", "file"),
            folder("f"),
            member("f/in", "in"),
            member("lib", "was a link"),
            folder("away"),
            member("away/in", "in"),
        ),
        root,
    )
    assert (root / "d").read_text() == "file"
    assert (root / "f" / "in").read_text() == "in"
    assert (root / "lib").read_text() == "was a link"
    assert (root / "away" / "in").read_text() == "in"


def test_a_file_is_replaced_not_written_into(root: Path) -> None:
    os.link(root / "f", root / "g")
    apply_layer(layer(member("f", "upper"), member("lib", "upper")), root)
    assert (root / "g").read_text() == "lower"
    assert (root / "d" / "x").read_text() == "lower"


def test_a_folder_keeps_what_it_has_and_takes_the_metadata(root: Path) -> None:
    apply_layer(layer(folder("d", mode=0o700, mtime=SECOND)), root)
    assert names(root) == LOWER
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o700
    assert (root / "d").stat().st_mtime == SECOND


def test_parents_are_followed_inside_and_made(root: Path) -> None:
    apply_layer(layer(member("lib/new", "n"), member("a/b/c", "n")), root)
    assert (root / "d" / "new").read_text() == "n"
    assert (root / "a" / "b" / "c").read_text() == "n"
    assert stat.S_IMODE((root / "a" / "b").stat().st_mode) == 0o755


def test_the_root_itself_is_left_alone(root: Path) -> None:
    mode = root.stat().st_mode
    apply_layer(layer(folder("./", mode=0o1), folder(".", mode=0), folder("/", mode=0)), root)
    assert root.stat().st_mode == mode
    assert names(root) == LOWER


@pytest.mark.parametrize(
    "name", ["../new", "/../../new", "d/../../../new", "away/new", "away/../../new", "//new"]
)
def test_entries_stay_inside(root: Path, tmp_path: Path, name: str) -> None:
    apply_layer(layer(member(name, "n")), root)
    assert sorted(os.listdir(tmp_path)) == ["outside", "root"]
    assert os.listdir(tmp_path / "outside") == ["secret"]


def test_links_that_the_archive_brings_stay_inside(root: Path, tmp_path: Path) -> None:
    outside = str(tmp_path / "outside")
    apply_layer(
        layer(
            symlink("d/up", "../../outside"),
            member("d/up/new", "n"),
            symlink("etc", outside),
            member("etc/secret", "overwritten"),
            symlink("secret", f"{outside}/secret"),
            member("secret", "overwritten"),
        ),
        root,
    )
    assert os.listdir(outside) == ["secret"]
    assert (tmp_path / "outside" / "secret").read_text() == "secret"
    assert (root / "secret").read_text() == "overwritten"


@pytest.mark.parametrize("target", ["../outside/secret", "away/secret", "/../outside/secret"])
def test_hard_links_stay_inside(root: Path, target: str) -> None:
    with pytest.raises(CorruptError, match="no such file"):
        apply_layer(layer(link("stolen", target)), root)
    assert not (root / "stolen").exists()


def test_a_hard_link_to_a_link_does_not_follow_it(root: Path, tmp_path: Path) -> None:
    (root / "bait").symlink_to(tmp_path / "outside" / "secret")
    apply_layer(layer(link("stolen", "bait")), root)
    assert (root / "stolen").is_symlink()
    assert (tmp_path / "outside" / "secret").stat().st_nlink == 1


def test_hard_links_over_what_is_there(root: Path) -> None:
    os.link(root / "f", root / "g")
    apply_layer(layer(link("g", "f"), link("d/x", "f"), link("f", "f")), root)
    assert os.path.samefile(root / "f", root / "g")
    assert os.path.samefile(root / "f", root / "d" / "x")
    assert (root / "f").read_text() == "lower"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([member("f/below", "n")], "not a directory: `f/below`"),
        ([link("l", "nothing")], "no such file or directory: `l`"),
        ([link("l", "d")], "links to a directory: `d`"),
        ([link("l", "/")], "links to the root: `l`"),
        ([member("odd", type=b"V")], "unknown type b'V': `odd`"),
        ([member("n", uid=1 << 40)], "`n`"),
        ([member("n", pax_headers={"path": "nu\0l"})], "null"),
    ],
)
def test_refusals(root: Path, entries: list[tarfile.TarInfo], message: str) -> None:
    with pytest.raises(CorruptError, match=message):
        apply_layer(layer(*entries), root)


def test_attributes_that_would_steer_overlays_are_left_out(root: Path) -> None:
    entry = member(
        "d/x",
        pax_headers={"SCHILY.xattr.user.k": "v", "SCHILY.xattr.user.overlay.opaque": "y"},
    )
    apply_layer(layer(entry), root)
    assert os.listxattr(root / "d" / "x") == ["user.k"]


@pytest.mark.needs("root")
def test_owners_devices_and_capabilities(root: Path) -> None:
    apply_layer(
        layer(
            folder("o", uid=7, gid=8, mode=0o2775),
            member("o/f", "x", uid=70_000, gid=70_001, mode=0o4755),
            member("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        ),
        root,
    )
    status = (root / "o" / "f").stat()
    assert (status.st_uid, status.st_gid) == (70_000, 70_001)
    assert stat.S_IMODE(status.st_mode) == 0o4755
    assert ((root / "o").stat().st_uid, (root / "o").stat().st_gid) == (7, 8)
    assert (root / "null").stat().st_rdev == os.makedev(1, 3)
    assert stat.S_IMODE((root / "null").stat().st_mode) == 0o666


def test_the_umask_plays_no_part(root: Path) -> None:
    previous = os.umask(0o077)
    try:
        apply_layer(layer(folder("n"), member("n/f", mode=0o666), member("p/q", "n")), root)
    finally:
        os.umask(previous)
    assert stat.S_IMODE((root / "n").stat().st_mode) == 0o755
    assert stat.S_IMODE((root / "n" / "f").stat().st_mode) == 0o666
    assert stat.S_IMODE((root / "p").stat().st_mode) == 0o755


def test_a_replaced_parent_is_not_used_any_more(root: Path) -> None:
    """The directory that was open for the first file is gone when the second comes."""
    apply_layer(
        layer(
            member("d/inner/one", "1"),
            member("d", "now a file"),
            folder("d"),
            member("d/inner/two", "2"),
        ),
        root,
    )
    assert names(root / "d") == ["inner", "inner/two"]


def test_many_folders_and_no_descriptor_left(root: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    wide = [member(f"w{i}/f", "n") for i in range(200)]
    apply_layer(layer(*wide, *[member(f"w{i}/g", "n") for i in range(200)]), root)
    assert all((root / f"w{i}" / "g").exists() for i in range(200))
    with pytest.raises(CorruptError):
        apply_layer(layer(*wide, member("f/x")), root)
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_walk_without_openat2_does_the_same(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = RootFolder.__init__

    def without(self: RootFolder, path: Path) -> None:
        real(self, path, use_openat2=False)

    monkeypatch.setattr(RootFolder, "__init__", without)
    apply_layer(layer(member("lib/n", "n"), member("away/n", "n"), member(".wh.f")), root)
    assert (root / "d" / "n").exists()
    assert not (root / "f").exists()
    assert os.listdir(tmp_path / "outside") == ["secret"]
