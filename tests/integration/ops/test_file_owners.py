"""Owners, devices and capabilities: what only root can make."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from tests.integration import who

from torana.core.llb.ops import Copy, MkDir, MkFile, Symlink
from torana.core.ops.file import actions
from torana.core.ops.file.copy import copy
from torana.core.ops.file.errors import FileActionError
from torana.core.ops.file.owner import Owner
from torana.core.ops.file.root import Root

pytestmark = pytest.mark.needs("root")
OWNER = (1234, 1235)
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")  # cap_net_bind_service


@pytest.fixture
def src(tmp_path: Path) -> Path:
    made = tmp_path / "src"
    made.mkdir()
    return made


@pytest.fixture
def dst(tmp_path: Path) -> Path:
    made = tmp_path / "dst"
    made.mkdir()
    return made


def owner(path: Path) -> Owner:
    status = path.lstat()
    return status.st_uid, status.st_gid


def run(src: Path, dst: Path, wanted: Owner | None, *, contents: bool = False) -> None:
    action = Copy(
        src="/d",
        dest="/p/o",
        mode=-1,
        timestamp=-1,
        create_dest_path=True,
        dir_copy_contents=contents,
    )
    with Root(src) as source, Root(dst) as target:
        copy(action, source, target, wanted)


@pytest.fixture
def tree(src: Path) -> Path:
    """A directory with one of each kind, each with an owner of its own."""
    top = src / "d"
    (top / "sub").mkdir(parents=True)
    (top / "sub/f").touch()
    (top / "g").touch()
    (top / "l").symlink_to("g")
    os.mkfifo(top / "pipe")
    for number, path in enumerate([top, *sorted(top.rglob("*"))], 100):
        os.chown(path, number, number + 1000, follow_symlinks=False)
    return top


@who.other_users
def test_source_owners_are_kept(src: Path, dst: Path, tree: Path) -> None:
    run(src, dst, None)
    for path in [tree, *tree.rglob("*")]:
        assert owner(dst / "p/o" / path.relative_to(tree)) == owner(path), path
    assert owner(dst / "p") == (0, 0)


@who.other_users
def test_an_owner_is_for_all_and_for_made_parents(src: Path, dst: Path, tree: Path) -> None:
    run(src, dst, OWNER)
    for path in [dst / "p", *(dst / "p").rglob("*")]:
        assert owner(path) == OWNER, path


@who.other_users
def test_an_existing_top_keeps_its_owner_and_nested_ones_do_not(
    src: Path, dst: Path, tree: Path
) -> None:
    (dst / "p/o/sub").mkdir(parents=True)
    run(src, dst, None, contents=True)
    assert owner(dst / "p/o") == (0, 0)
    assert owner(dst / "p/o/sub") == owner(tree / "sub")


@who.other_users
def test_set_group_directories_do_not_hand_their_group_down(src: Path, dst: Path) -> None:
    (src / "d").mkdir()
    for name in ("a", "b", "c"):
        (src / "d" / name).touch()
    os.chown(src / "d/b", 0, 77)
    (dst / "p/o").mkdir(parents=True)
    os.chown(dst / "p/o", 0, 55)
    (dst / "p/o").chmod(0o2755)
    run(src, dst, None, contents=True)
    assert [owner(dst / "p/o" / name)[1] for name in ("a", "b", "c")] == [0, 77, 0]


@who.devices
def test_devices(src: Path, dst: Path) -> None:
    tree = src / "d"
    tree.mkdir()
    os.mkfifo(tree / "pipe")
    os.mknod(tree / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(tree / "loop", stat.S_IFBLK | 0o660, os.makedev(7, 200))
    run(src, dst, None)
    for name in ("null", "loop", "pipe"):
        made, known = (dst / "p/o" / name).lstat(), (tree / name).lstat()
        assert made.st_mode == known.st_mode
        assert made.st_rdev == known.st_rdev


@who.other_users
def test_set_user_bits_and_capabilities_survive_the_owner(src: Path, dst: Path) -> None:
    (src / "d").mkdir()
    (src / "d/tool").write_bytes(b"x")
    os.setxattr(src / "d/tool", "security.capability", CAPABILITY)
    (src / "d/tool").chmod(0o6755)
    run(src, dst, OWNER)
    made = dst / "p/o/tool"
    assert stat.S_IMODE(made.stat().st_mode) == 0o6755
    assert os.getxattr(made, "security.capability") == CAPABILITY


@who.other_users
def test_other_actions(dst: Path) -> None:
    with Root(dst) as root:
        actions.mkdir(MkDir(path="/a/b", mode=0o700, make_parents=True, timestamp=-1), root, OWNER)
        actions.mkfile(MkFile(path="/a/f", mode=0o600, timestamp=-1), root, OWNER)
        actions.symlink(Symlink(oldpath="/a/f", newpath="/l", timestamp=-1), root, (5, 6))
        actions.mkfile(MkFile(path="/l", mode=0o600, timestamp=-1), root, None)
    assert [owner(dst / name) for name in ("a", "a/b", "a/f", "l")] == [OWNER] * 3 + [(5, 6)]


@who.devices
def test_a_device_is_never_written_to(dst: Path) -> None:
    os.mknod(dst / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with Root(dst) as root, pytest.raises(FileActionError, match="not a regular file"):
        actions.mkfile(MkFile(path="/null", mode=0o600, timestamp=-1, data=b"x"), root, None)
