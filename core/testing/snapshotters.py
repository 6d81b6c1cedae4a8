"""`SnapshotterSuite`: what every snapshotter must do; subclass it with the fixtures `snapshotter`
and `folder`, the directory of its snapshots.

The suite needs pytest, which is no dependency of the package: import it from tests only. It is one
class, and so one module, since whoever subclasses it has to pass all of it.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from torana.core.errors import ConflictError, NotFoundError
from torana.core.snapshots.snapshotter import Change, ChangeKind, Snapshotter
from torana.core.testing.abilities import devices, other_users

Edit = Callable[[Path], None]
Expected = list[tuple[str, bytes]]

_SECOND: Final = 1_700_000_000
_CHAIN: Final = 130  # above what one page of mount options holds


def make(snapshotter: Snapshotter, name: str, parent: str | None, edit: Edit) -> None:
    """Commit `name`: `parent` with `edit` done to it."""
    key = f"key-{name}"
    snapshotter.prepare(key, parent)
    with snapshotter.mount(key, readonly=False) as root:
        edit(root)
    snapshotter.commit(key, name)


def base_tree(root: Path) -> None:
    """Make the tree that edits start from; `links` and `elsewhere` are traps for path walks."""
    (root / "a" / "deep").mkdir(parents=True)
    for name in ("a/x", "a/y", "a/deep/z", "keep", "h1"):
        (root / name).write_text(name)
    os.link(root / "h1", root / "h2")
    (root / "soft").symlink_to("keep")
    (root / "elsewhere").symlink_to("/etc")
    (root / "inside").symlink_to("a")
    (root / "empty").mkdir()
    os.mkfifo(root / "fifo", 0o640)
    Path(os.fsdecode(os.fsencode(root) + b"/na\xffme")).write_text("bytes")
    (root / "old").write_text("same")
    os.utime(root / "old", (_SECOND, _SECOND))


def _recreate(root: Path) -> None:
    shutil.rmtree(root / "a")
    (root / "a").mkdir()
    (root / "a" / "x").write_text("another x")


def _file_to_folder(root: Path) -> None:
    (root / "keep").unlink()
    (root / "keep").mkdir()
    (root / "keep" / "in").write_text("in")


def _folder_to_file(root: Path) -> None:
    shutil.rmtree(root / "a")
    (root / "a").write_text("file")


def _link_to_folder(root: Path) -> None:
    (root / "elsewhere").unlink()
    (root / "elsewhere").mkdir()
    (root / "elsewhere" / "passwd").write_text("mine")


def _inner_link_to_folder(root: Path) -> None:
    (root / "inside").unlink()
    (root / "inside").mkdir()
    shutil.copy2(root / "a" / "x", root / "inside" / "x")


def _make_and_remove(root: Path) -> None:
    (root / "a" / "passing").write_text("by")
    (root / "a" / "passing").unlink()


def _order(root: Path) -> None:
    (root / "a" / "x").write_text("changed")
    (root / "a-b").write_text("-")
    (root / "a.b").write_text(".")


def _same_size_same_second(root: Path) -> None:
    (root / "old").write_text("diff")
    os.utime(root / "old", (_SECOND, _SECOND))


def _rewritten_as_it_was(root: Path) -> None:
    (root / "old").write_text("same")
    os.utime(root / "old", (_SECOND, _SECOND))


def _recreate_deep(root: Path) -> None:
    shutil.rmtree(root / "a" / "deep")
    (root / "a" / "deep").mkdir(mode=0o700)
    os.chmod(root / "a" / "deep", 0o700)


def _socket(root: Path) -> None:
    previous = os.getcwd()
    os.chdir(root)  # socket names are short
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("s")
    finally:
        os.chdir(previous)


def _bytes_name(root: Path) -> None:
    Path(os.fsdecode(os.fsencode(root) + b"/\xfe\n")).write_text("new")


EDITS: Final[dict[str, tuple[Edit, Expected]]] = {
    "nothing": (lambda root: None, []),
    "add": (lambda root: _write(root / "new"), [("add", b"new")]),
    "add below": (lambda root: _write(root / "a" / "new"), [("add", b"a/new")]),
    "add folder": (lambda root: (root / "f").mkdir(), [("add", b"f")]),
    "write": (lambda root: _write(root / "keep"), [("modify", b"keep")]),
    "chmod": (lambda root: (root / "keep").chmod(0o600), [("modify", b"keep")]),
    "chmod folder": (lambda root: (root / "a").chmod(0o700), [("modify", b"a")]),
    "mtime": (lambda root: os.utime(root / "keep", (1, 1)), [("modify", b"keep")]),
    "mtime of folder": (lambda root: os.utime(root / "a", (1, 1)), []),
    "user xattr": (lambda root: os.setxattr(root / "keep", "user.k", b"v"), []),
    "delete": (lambda root: (root / "keep").unlink(), [("delete", b"keep")]),
    "delete folder": (lambda root: shutil.rmtree(root / "a"), [("delete", b"a")]),
    "delete link": (lambda root: (root / "elsewhere").unlink(), [("delete", b"elsewhere")]),
    "recreate": (
        _recreate,
        [("delete", b"a/deep"), ("modify", b"a/x"), ("delete", b"a/y")],
    ),
    "recreate deep": (_recreate_deep, [("modify", b"a/deep"), ("delete", b"a/deep/z")]),
    "file to folder": (_file_to_folder, [("modify", b"keep"), ("add", b"keep/in")]),
    "folder to file": (_folder_to_file, [("modify", b"a")]),
    "link to folder": (
        _link_to_folder,
        [("modify", b"elsewhere"), ("add", b"elsewhere/passwd")],
    ),
    "inner link to folder": (
        _inner_link_to_folder,
        [("modify", b"inside"), ("add", b"inside/x")],
    ),
    "rename": (
        lambda root: os.rename(root / "keep", root / "kept"),
        [("delete", b"keep"), ("add", b"kept")],
    ),
    # Unchanged links come along with a new one, for a layer to link them again.
    "hard link": (
        lambda root: os.link(root / "keep", root / "kept"),
        [("add", b"kept"), ("modify", b"keep")],
    ),
    "earlier hard link": (
        lambda root: os.link(root / "keep", root / "early"),
        [("add", b"early"), ("modify", b"keep")],
    ),
    "make and remove": (_make_and_remove, []),
    "order": (_order, [("modify", b"a/x"), ("add", b"a-b"), ("add", b"a.b")]),
    "content only": (_same_size_same_second, [("modify", b"old")]),
    "rewritten as it was": (_rewritten_as_it_was, []),
    "fifo": (lambda root: os.mkfifo(root / "p"), [("add", b"p")]),
    "socket": (_socket, [("add", b"s")]),
    "bytes": (_bytes_name, [("add", b"\xfe\n")]),
    "delete bytes": (
        lambda root: os.unlink(os.fsencode(root) + b"/na\xffme"),
        [("delete", b"na\xffme")],
    ),
}

ROOT_EDITS: Final[dict[str, tuple[Edit, Expected]]] = {
    "chown": (lambda root: os.chown(root / "keep", 1, 2), [("modify", b"keep")]),
    "device": (
        lambda root: os.mknod(root / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3)),
        [("add", b"null")],
    ),
    "capability": (lambda root: _set_capability(root / "keep"), [("modify", b"keep")]),
}
ROOT_MARKS: Final = {"chown": other_users, "device": devices}


def _write(path: Path) -> None:
    path.write_text("written")


def _set_capability(path: Path) -> None:
    os.setxattr(
        path, "security.capability", bytes.fromhex("0100000200200000000000000000000000000000")
    )


def listed(changes: list[Change]) -> Expected:
    """Give changes as plain values."""
    return [(change.kind.value, change.path) for change in changes]


class SnapshotterSuite:
    """Life, content and differences of snapshots."""

    @pytest.fixture
    def based(self, snapshotter: Snapshotter) -> Snapshotter:
        make(snapshotter, "base", None, base_tree)
        return snapshotter

    # Life

    def test_life(self, snapshotter: Snapshotter) -> None:
        snapshotter.prepare("k", None)
        assert not snapshotter.exists("one")
        assert not list(snapshotter.names())
        snapshotter.commit("k", "one")
        assert snapshotter.exists("one")
        assert snapshotter.parent("one") is None
        make(snapshotter, "two", "one", base_tree)
        assert snapshotter.parent("two") == "one"
        assert sorted(snapshotter.names()) == ["one", "two"]
        snapshotter.remove("two")
        assert not snapshotter.exists("two")
        assert list(snapshotter.names()) == ["one"]
        snapshotter.remove("two")  # missing is no error
        snapshotter.sweep()
        assert snapshotter.exists("one")

    def test_root_mode_does_not_depend_on_the_umask(self, snapshotter: Snapshotter) -> None:
        previous = os.umask(0o077)
        try:
            snapshotter.prepare("k", None)
        finally:
            os.umask(previous)
        with snapshotter.mount("k", readonly=False) as root:
            assert stat.S_IMODE(root.stat().st_mode) == 0o755

    def test_missing_parent(self, snapshotter: Snapshotter) -> None:
        with pytest.raises(NotFoundError):
            snapshotter.prepare("k", "nobody")
        snapshotter.prepare("k", None)  # the name was not used up

    def test_missing_snapshot(self, snapshotter: Snapshotter) -> None:
        with pytest.raises(NotFoundError), snapshotter.mount("nobody", readonly=True):
            pass
        with pytest.raises(NotFoundError):
            snapshotter.parent("nobody")
        with pytest.raises(NotFoundError):
            snapshotter.usage("nobody")
        with pytest.raises(NotFoundError):
            snapshotter.commit("nobody", "name")
        assert not snapshotter.exists("name")

    def test_key_exists(self, based: Snapshotter) -> None:
        based.prepare("k", None)
        with pytest.raises(ConflictError):
            based.prepare("k", None)
        with pytest.raises(ConflictError):
            based.prepare("base", None)

    def test_a_committed_snapshot_is_not_committed_again(self, based: Snapshotter) -> None:
        with pytest.raises(NotFoundError):
            based.commit("base", "again")
        assert based.exists("base")
        assert not based.exists("again")

    def test_a_failed_commit_keeps_the_active_one(self, based: Snapshotter) -> None:
        based.prepare("k", "base")
        with based.mount("k", readonly=False) as root:
            (root / "mine").write_text("mine")
        with pytest.raises(ConflictError):
            based.commit("k", "base")
        with based.mount("k", readonly=False) as root:
            assert (root / "mine").read_text() == "mine"
        based.sweep()
        based.commit("k", "other")
        with based.mount("other", readonly=True) as root:
            assert (root / "mine").exists()
        with based.mount("base", readonly=True) as root:
            assert not (root / "mine").exists()

    def test_commit_under_its_own_key(self, based: Snapshotter) -> None:
        based.prepare("k", "base")
        based.commit("k", "k")
        assert based.exists("k")
        assert based.parent("k") == "base"
        based.sweep()
        assert based.exists("k")

    def test_remove_an_active_one(self, based: Snapshotter) -> None:
        based.prepare("k", "base")
        based.remove("k")
        with pytest.raises(NotFoundError):
            based.commit("k", "name")
        based.prepare("k", "base")
        based.commit("k", "name")

    def test_a_committed_snapshot_is_not_mounted_for_writing(self, based: Snapshotter) -> None:
        with pytest.raises(ConflictError), based.mount("base", readonly=False):
            pass

    def test_any_number_of_mounts(self, based: Snapshotter) -> None:
        make(based, "two", "base", _order)
        with based.mount("two", readonly=True) as one, based.mount("two", readonly=True) as two:
            assert (one / "a" / "x").read_text() == (two / "a" / "x").read_text() == "changed"
        based.prepare("k", "two")
        with (
            based.mount("k", readonly=False) as one,
            based.mount("k", readonly=True) as two,
            based.mount("two", readonly=True) as below,
        ):
            (one / "k").write_text("k")
            assert not (below / "k").exists()
            assert (two / "a-b").exists()

    def test_sweep_leaves_live_ones_and_takes_abandoned_ones(
        self, based: Snapshotter, folder: Path
    ) -> None:
        based.prepare("mine", "base")
        code = (
            "import sys, os, pathlib\n"
            "from torana.core.snapshots.folders import SnapshotFolders\n"
            "SnapshotFolders(pathlib.Path(sys.argv[1])).create('theirs', None)\n"
            "print('made', flush=True)\n"
            "sys.stdin.read()\n"
            "os._exit(0)\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"made\n"
            based.sweep()
            assert (folder / "new-theirs").is_dir()
            other.kill()
        based.sweep()
        assert not (folder / "new-theirs").exists()
        assert not list((folder / "trash").iterdir())
        based.commit("mine", "still mine")

    def test_usage(self, snapshotter: Snapshotter) -> None:
        def fill(root: Path) -> None:
            (root / "big").write_bytes(b"x" * 100_000)
            os.link(root / "big", root / "again")
            with open(root / "hole", "wb") as file:
                file.truncate(1 << 30)

        make(snapshotter, "one", None, fill)
        usage = snapshotter.usage("one")
        assert 100_000 <= usage.size_bytes < 200_000
        assert usage.inodes == 2

    # Content

    def test_content_is_kept(self, based: Snapshotter) -> None:
        def edit(root: Path) -> None:
            (root / "set").write_text("id")
            os.chmod(root / "set", 0o4755)
            os.mkdir(root / "sticky")
            os.chmod(root / "sticky", 0o1777)
            os.setxattr(root / "keep", "user.k", b"\0v")
            (root / "keep").chmod(0o444)
            os.utime(root / "soft", ns=(5, 1_000_000_007), follow_symlinks=False)
            os.utime(root / "empty", ns=(5, 2_000_000_009))
            with open(root / "sparse", "wb") as file:
                file.write(b"head")
                file.seek(50 << 20)
                file.write(b"tail")
                file.truncate(100 << 20)

        make(based, "two", "base", edit)
        make(based, "three", "two", lambda root: None)
        with based.mount("three", readonly=True) as root:
            assert stat.S_IMODE((root / "set").stat().st_mode) == 0o4755
            assert stat.S_IMODE((root / "sticky").stat().st_mode) == 0o1777
            assert os.getxattr(root / "keep", "user.k") == b"\0v"
            assert stat.S_IMODE((root / "keep").stat().st_mode) == 0o444
            assert os.lstat(root / "soft").st_mtime_ns == 1_000_000_007
            assert os.lstat(root / "empty").st_mtime_ns == 2_000_000_009
            assert os.readlink(root / "elsewhere") == "/etc"
            fifo = os.lstat(root / "fifo")
            assert stat.S_ISFIFO(fifo.st_mode)
            assert os.stat(root / "h1").st_ino == os.stat(root / "h2").st_ino
            assert os.stat(root / "h1").st_nlink == 2
            assert b"na\xffme" in os.listdir(os.fsencode(root))
            sparse = (root / "sparse").stat()
            assert sparse.st_size == 100 << 20
            assert sparse.st_blocks * 512 < 1 << 20
            with open(root / "sparse", "rb") as file:
                assert file.read(4) == b"head"
                file.seek(50 << 20)
                assert file.read(5) == b"tail\0"

    @devices
    @pytest.mark.needs("root")
    def test_what_only_root_can_make(self, based: Snapshotter) -> None:
        def edit(root: Path) -> None:
            os.mknod(root / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
            os.mknod(root / "disk", 0o660 | stat.S_IFBLK, os.makedev(259, 70000))
            os.chown(root / "keep", 70_000, 70_001)
            os.chown(root / "soft", 1, 2, follow_symlinks=False)
            os.setxattr(root / "keep", "trusted.t", b"t")
            _set_capability(root / "keep")
            os.chown(root, 7, 8)
            os.chmod(root, 0o711)

        make(based, "two", "base", edit)
        make(based, "three", "two", _write_new)
        with based.mount("three", readonly=True) as root:
            assert os.stat(root / "null").st_rdev == os.makedev(1, 3)
            assert stat.S_ISBLK(os.stat(root / "disk").st_mode)
            assert os.stat(root / "disk").st_rdev == os.makedev(259, 70000)
            kept = os.stat(root / "keep")
            assert (kept.st_uid, kept.st_gid) == (70_000, 70_001)
            soft = os.lstat(root / "soft")
            assert (soft.st_uid, soft.st_gid) == (1, 2)
            assert os.getxattr(root / "keep", "trusted.t") == b"t"
            assert os.getxattr(root / "keep", "security.capability")
            top = os.stat(root)
            assert (top.st_uid, top.st_gid, stat.S_IMODE(top.st_mode)) == (7, 8, 0o711)

    @pytest.mark.parametrize("name", ["recreate", "file to folder", "folder to file", "delete"])
    def test_children_see_what_was_made(self, based: Snapshotter, name: str) -> None:
        edit = EDITS[name][0]
        make(based, "two", "base", edit)
        make(based, "three", "two", lambda root: None)
        with based.mount("two", readonly=True) as two, based.mount("three", readonly=True) as three:
            assert _names(two) == _names(three)
            if name == "recreate":
                assert sorted(os.listdir(three / "a")) == ["x"]

    def test_long_chain(self, snapshotter: Snapshotter) -> None:
        parent: str | None = None
        for number in range(_CHAIN):
            name = f"sha256:{number:064x}"

            def edit(root: Path, number: int = number) -> None:
                (root / f"f{number}").write_text(str(number))
                (root / "last").write_text(str(number))

            make(snapshotter, name, parent, edit)
            parent = name
        assert parent is not None
        snapshotter.prepare("top", parent)
        with snapshotter.mount("top", readonly=False) as root:
            assert len(os.listdir(root)) == _CHAIN + 1
            assert (root / "last").read_text() == str(_CHAIN - 1)
            (root / "f0").unlink()
        snapshotter.commit("top", "top")
        assert listed(list(snapshotter.changes("top", parent))) == [("delete", b"f0")]

    # Differences

    @pytest.mark.parametrize("name", EDITS)
    def test_changes(self, based: Snapshotter, name: str) -> None:
        edit, expected = EDITS[name]
        make(based, "two", "base", edit)
        assert listed(list(based.changes("two", "base"))) == expected

    @pytest.mark.needs("root")
    @pytest.mark.parametrize(
        "name", [pytest.param(name, marks=ROOT_MARKS.get(name, ())) for name in ROOT_EDITS]
    )
    def test_changes_by_root(self, based: Snapshotter, name: str) -> None:
        edit, expected = ROOT_EDITS[name]
        make(based, "two", "base", edit)
        assert listed(list(based.changes("two", "base"))) == expected

    @pytest.mark.parametrize("name", EDITS)
    def test_changes_against_a_distant_parent(self, based: Snapshotter, name: str) -> None:
        edit, expected = EDITS[name]
        make(based, "two", "base", edit)
        make(based, "three", "two", lambda root: None)
        assert listed(list(based.changes("three", "base"))) == expected

    def test_changes_against_nothing(self, based: Snapshotter) -> None:
        make(based, "two", "base", _recreate)
        found = list(based.changes("two", None))
        assert {change.kind for change in found} == {ChangeKind.ADD}
        assert [change.path for change in found][:3] == [b"a", b"a/x", b"elsewhere"]

    def test_sources_hold_the_new_state(self, based: Snapshotter) -> None:
        make(based, "two", "base", _order)
        seen = {}
        for change in based.changes("two", "base"):
            assert change.source is not None
            seen[change.path] = Path(os.fsdecode(change.source)).read_text()
        assert seen == {b"a/x": "changed", b"a-b": "-", b"a.b": "."}


def _write_new(root: Path) -> None:
    (root / "new").write_text("new")


def _names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))
