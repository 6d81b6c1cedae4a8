"""mkdir, mkfile, symlink, rm: the measured cases, and trees that want out."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from torana.core.llb.ops import MkDir, MkFile, Rm, Symlink
from torana.core.ops.file import actions
from torana.core.ops.file.errors import FileActionError
from torana.core.ops.file.root import MAX_LINKS, Root, remove

TIME = 1_500_000_000_123_456_789


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A root with a neighbour that must never be touched."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    made = tmp_path / "root"
    made.mkdir()
    return made


@pytest.fixture(autouse=True)
def other_umask() -> Iterator[None]:
    """Modes must not depend on the umask."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.fixture(autouse=True)
def nothing_leaks(tree: Path) -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before
    outside = tree.parent / "outside"
    assert [p.name for p in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_text() == "secret"


def run(tree: Path, action: MkDir | MkFile | Symlink | Rm) -> None:
    with Root(tree) as root:
        match action:
            case MkDir():
                actions.mkdir(action, root, None)
            case MkFile():
                actions.mkfile(action, root, None)
            case Symlink():
                actions.symlink(action, root, None)
            case Rm():
                actions.rm(action, root)


def fails(tree: Path, action: MkDir | MkFile | Symlink | Rm, message: str) -> None:
    with pytest.raises(FileActionError) as caught:
        run(tree, action)
    assert caught.value.message == message


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def mkdir(path: str, mode: int = 0o755, parents: bool = False, timestamp: int = -1) -> MkDir:
    return MkDir(path=path, mode=mode, make_parents=parents, timestamp=timestamp)


def test_mkdir_sets_the_mode_without_special_bits(tree: Path) -> None:
    run(tree, mkdir("d", 0o7777))
    assert mode(tree / "d") == 0o777


def test_mkdir_on_something_changes_nothing(tree: Path) -> None:
    (tree / "f").write_text("x")
    (tree / "f").chmod(0o600)
    run(tree, mkdir("/f", timestamp=TIME))
    assert (tree / "f").read_text() == "x"
    assert mode(tree / "f") == 0o600
    assert (tree / "f").stat().st_mtime_ns != TIME


def test_mkdir_without_parents(tree: Path) -> None:
    fails(tree, mkdir("/a/b"), "mkdir /a/b: no such file or directory")


def test_mkdir_on_and_below_a_file(tree: Path) -> None:
    (tree / "f").touch()
    fails(tree, mkdir("/f", parents=True), "mkdir /f: not a directory")
    fails(tree, mkdir("/f/x", parents=True), "lstat /f/x: not a directory")
    fails(tree, mkdir("/f/x"), "lstat /f/x: not a directory")


def test_mkdir_with_parents_gives_all_the_same_and_leaves_what_was_there(tree: Path) -> None:
    (tree / "a").mkdir()
    (tree / "a").chmod(0o711)
    run(tree, mkdir("/a/b/c", 0o751, parents=True, timestamp=TIME))
    assert mode(tree / "a") == 0o711
    for path in (tree / "a/b", tree / "a/b/c"):
        assert mode(path) == 0o751
        assert path.stat().st_mtime_ns == TIME


def test_mkdir_of_the_root(tree: Path) -> None:
    run(tree, mkdir("/"))
    run(tree, mkdir("..", parents=True))


@pytest.mark.parametrize("target", ["/etc", "../../../etc", "/../etc", "./../etc"])
def test_links_stay_inside(tree: Path, target: str) -> None:
    (tree / "etc").mkdir()
    (tree / "l").symlink_to(target)
    run(tree, mkdir("/l/made"))
    run(tree, MkFile(path="/l/file", mode=0o644, timestamp=-1))
    assert sorted(os.listdir(tree / "etc")) == ["file", "made"]


def test_mkdir_follows_a_link_at_the_end_to_something_missing(tree: Path) -> None:
    (tree / "l").symlink_to("/x/../new")
    run(tree, mkdir("/l"))
    assert (tree / "new").is_dir()


def test_link_loops_end(tree: Path) -> None:
    (tree / "a").symlink_to("b")
    (tree / "b").symlink_to("/a")
    fails(tree, mkdir("/a/c", parents=True), "too many links: /a/c")


def test_long_link_chains(tree: Path) -> None:
    (tree / "l0").mkdir()
    for i in range(1, MAX_LINKS + 2):
        (tree / f"l{i}").symlink_to(f"l{i - 1}")
    run(tree, mkdir(f"/l{MAX_LINKS}/x"))
    with pytest.raises(FileActionError, match="too many links"):
        run(tree, mkdir(f"/l{MAX_LINKS + 1}/y"))


def mkfile(path: str, mode: int = 0o644, data: bytes = b"data", timestamp: int = -1) -> MkFile:
    return MkFile(path=path, mode=mode, data=data, timestamp=timestamp)


def test_mkfile(tree: Path) -> None:
    run(tree, mkfile("f", 0o4777, timestamp=TIME))
    assert (tree / "f").read_bytes() == b"data"
    assert mode(tree / "f") == 0o777
    assert (tree / "f").stat().st_mtime_ns == TIME


def test_mkfile_over_a_file_keeps_its_mode(tree: Path) -> None:
    (tree / "f").write_text("longer than before")
    (tree / "f").chmod(0o600)
    run(tree, mkfile("/f", 0o777, timestamp=0))
    assert (tree / "f").read_bytes() == b"data"
    assert mode(tree / "f") == 0o600
    assert (tree / "f").stat().st_mtime_ns == 0


def test_mkfile_through_a_link(tree: Path) -> None:
    (tree / "etc").mkdir()
    (tree / "l").symlink_to("/../../../etc/zz")
    run(tree, mkfile("/l"))
    assert (tree / "etc/zz").read_bytes() == b"data"
    (tree / "out").symlink_to(f"..{tree.parent}/outside/secret")
    fails(tree, mkfile("/out"), "open /out: no such file or directory")


def test_mkfile_where_it_cannot_be(tree: Path) -> None:
    (tree / "d").mkdir()
    fails(tree, mkfile("/d"), "open /d: is a directory")
    fails(tree, mkfile("/"), "open /: is a directory")
    fails(tree, mkfile("/x/f"), "open /x/f: no such file or directory")
    os.mkfifo(tree / "pipe")
    fails(tree, mkfile("/pipe"), "open /pipe: not a regular file")


def link(old: str, new: str, timestamp: int = -1) -> Symlink:
    return Symlink(oldpath=old, newpath=new, timestamp=timestamp)


def test_symlink_text_is_verbatim(tree: Path) -> None:
    run(tree, link("../..//x/.", "/l", TIME))
    assert os.readlink(tree / "l") == "../..//x/."
    assert (tree / "l").lstat().st_mtime_ns == TIME
    fails(tree, link("x", "/l"), "symlink /l: file exists")
    fails(tree, link("x", "/"), "symlink /: file exists")
    fails(tree, link("x", "/no/l"), "symlink /no/l: no such file or directory")


def rm(path: str, allow: bool = False, wildcard: bool = False) -> Rm:
    return Rm(path=path, allow_not_found=allow, allow_wildcard=wildcard)


def test_rm_removes_a_tree(tree: Path) -> None:
    (tree / "d/e/f").mkdir(parents=True)
    (tree / "d/e/file").touch()
    (tree / "d/l").symlink_to(tree.parent / "outside")
    run(tree, rm("/d/"))
    assert os.listdir(tree) == []


def test_rm_removes_a_link_and_not_its_target(tree: Path) -> None:
    (tree / "d").mkdir()
    (tree / "l").symlink_to("d")
    run(tree, rm("/l"))
    assert os.listdir(tree) == ["d"]


def test_rm_follows_links_on_the_way_inside(tree: Path) -> None:
    (tree / "out").symlink_to("../outside")
    fails(tree, rm("/out/secret"), "stat /out/secret: no such file or directory")
    run(tree, rm("/out/secret", allow=True))


def test_rm_of_what_is_not_there(tree: Path) -> None:
    fails(tree, rm("/x"), "stat /x: no such file or directory")
    run(tree, rm("/x", allow=True))
    run(tree, rm("/x/y", allow=True))
    (tree / "dang").symlink_to("nowhere")
    fails(tree, rm("/dang"), "stat /dang: no such file or directory")
    run(tree, rm("/dang", allow=True))
    assert os.listdir(tree) == []


@pytest.mark.parametrize("path", ["", "/", ".", "/..", "//"])
def test_rm_of_nothing(tree: Path, path: str) -> None:
    fails(tree, rm(path), "rmPath: invalid empty path")


def test_rm_wildcard(tree: Path) -> None:
    for name in ("a.o", "b.o", "c.c", "d/x.o", "d/y.c"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).touch()
    run(tree, rm("/*.o", wildcard=True))
    assert sorted(os.listdir(tree)) == ["c.c", "d"]
    run(tree, rm("/*/x*", wildcard=True))
    assert os.listdir(tree / "d") == ["y.c"]
    run(tree, rm("/nothing*", wildcard=True))
    fails(tree, rm("/gone/*", wildcard=True), "lstat /gone: no such file or directory")


def test_wildcards_do_not_enter_links(tree: Path) -> None:
    (tree / "out").symlink_to("../outside")
    run(tree, rm("/*/secret", wildcard=True))
    run(tree, rm("/out/*", wildcard=True, allow=True))


def test_deep_trees_are_removed(tree: Path) -> None:
    depth = 1500
    here = os.open(tree, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    raise_limit(lambda: run(tree, rm("/d")))
    assert os.listdir(tree) == []


def raise_limit(work: Callable[[], None]) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        work()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_link_that_takes_the_place_of_a_directory_is_not_followed(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between being seen and being opened, a directory becomes a link to the outside."""
    (tree / "d").mkdir()
    original = os.open
    swapped = False

    def swap(path: str | bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        nonlocal swapped
        if path in ("d", b"d") and not swapped:
            swapped = True
            (tree / "d").rename(tree / "gone")
            (tree / "d").symlink_to("../outside")
        return original(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", swap)
    with Root(tree) as root, root.find(b"/d/secret") as place:
        assert place.lstat() is None
    (tree / "d").unlink()
    (tree / "gone").rename(tree / "d")
    swapped = False
    with Root(tree) as root, pytest.raises(OSError):
        remove(root.fd, "d")
