"""The overlay snapshotter on real overlay mounts, in a mount namespace of this process."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from torana.core.snapshots import mounts, namespace
from torana.core.snapshots.choose import choose, why_no_overlay
from torana.core.snapshots.native import NativeSnapshotter
from torana.core.snapshots.overlay import OverlaySnapshotter
from torana.core.snapshots.snapshotter import Snapshotter
from torana.core.testing.snapshotters import SnapshotterSuite, base_tree, listed, make
from torana.core.testing.stacks import StackSuite

pytestmark = pytest.mark.needs("root")
OPTIONS = (
    ("userxattr",)
    if namespace.is_mapped_user()
    else ("index=off", "redirect_dir=off", "metacopy=off")
)


@pytest.fixture(autouse=True, scope="module")
def private_mounts() -> None:
    if os.geteuid() == 0:
        namespace.enter()


@pytest.fixture
def overlay(tmp_path: Path) -> OverlaySnapshotter:
    return OverlaySnapshotter(tmp_path / "store" / "overlay", options=OPTIONS)


class TestOverlay(SnapshotterSuite, StackSuite):
    builtins = ("overlay",)

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path / "store" / "overlay"

    @pytest.fixture
    def snapshotter(self, overlay: OverlaySnapshotter) -> Snapshotter:
        return overlay

    def test_readonly_mounts_refuse_writes(self, based: Snapshotter) -> None:
        make(based, "two", "base", lambda root: None)
        based.prepare("k", "two")
        for name in ("two", "k"):
            with based.mount(name, readonly=True) as root, pytest.raises(OSError):
                (root / "new").write_text("no")

    def test_no_mount_is_left(self, based: Snapshotter, tmp_path: Path) -> None:
        make(based, "two", "base", lambda root: None)
        list(based.changes("two", "base"))
        changes = iter(based.changes("two", None))
        next(changes)
        changes.close()  # type: ignore[attr-defined]  # a generator, given up half way
        assert str(tmp_path) not in Path("/proc/self/mounts").read_text()

    def test_mounts_of_other_processes(self, based: Snapshotter, folder: Path) -> None:
        make(based, "two", "base", lambda root: None)
        list(based.changes("two", "base"))
        targets = folder.parent / "mounts"
        before = sorted(targets.rglob("*"))
        with subprocess.Popen(
            [sys.executable, "-c", _MOUNT, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ) as other:
            assert other.stdin is not None
            assert other.stdout is not None
            assert other.stdout.readline() == b"mounted\n"
            based.sweep()
            other.stdin.write(b"\n")
            other.stdin.flush()
            assert other.stdout.readline() == b"keep\n"
            other.kill()
        assert sorted(targets.rglob("*")) != before
        based.sweep()
        assert sorted(targets.rglob("*")) == before


_MOUNT = """
import sys, pathlib
from torana.core.snapshots import namespace
from torana.core.snapshots.overlay import OverlaySnapshotter
namespace.enter()
snapshots = OverlaySnapshotter(pathlib.Path(sys.argv[1]))
with snapshots.mount("two", readonly=True) as root:
    print("mounted", flush=True)
    sys.stdin.readline()
    print((root / "keep").read_text(), flush=True)
    sys.stdin.read()
"""


def _edit_at_random(root: Path, seed: int) -> None:
    """Do the same to equal trees."""
    dice = random.Random(seed)
    for _ in range(25):
        found = sorted(path for path in root.rglob("*"))
        folders = [root, *(p for p in found if p.is_dir() and not p.is_symlink())]
        target = dice.choice(folders) / f"n{dice.randrange(12)}"
        victim = dice.choice(found) if found else None
        match dice.randrange(6):
            case 0 if not os.path.lexists(target):
                target.mkdir()
            case 1 if not target.is_dir():
                # A new file: what writing does to hard links differs by nature.
                target.unlink(missing_ok=True)
                target.write_text(str(dice.random()))
            case 2 if victim is not None:
                if victim.is_dir() and not victim.is_symlink():
                    shutil.rmtree(victim)
                else:
                    victim.unlink()
            case 3 if victim is not None and not victim.is_symlink() and victim.is_dir():
                victim.chmod(dice.choice((0o700, 0o755)))
            case 4 if not os.path.lexists(target):
                target.symlink_to(dice.choice(("/etc", "a", "../a", "nowhere")))
            case 5 if victim is not None and victim.is_dir() and not victim.is_symlink():
                shutil.rmtree(victim)
                victim.mkdir()


@pytest.mark.parametrize("seed", range(25))
def test_both_snapshotters_see_the_same_changes(
    overlay: OverlaySnapshotter, tmp_path: Path, seed: int
) -> None:
    native = NativeSnapshotter(tmp_path / "native")
    kinds: tuple[Snapshotter, Snapshotter] = (overlay, native)
    results = []
    for snapshotter in kinds:
        make(snapshotter, "base", None, base_tree)
        make(snapshotter, "one", "base", lambda root: _edit_at_random(root, seed))
        make(snapshotter, "two", "one", lambda root: _edit_at_random(root, seed + 1000))
        results.append(
            [
                listed(list(snapshotter.changes(name, parent)))
                for name, parent in (("one", "base"), ("two", "one"), ("two", "base"))
            ]
        )
    assert results[0] == results[1]
    assert results[0][0]


def _touch(name: str, root: Path) -> None:
    (root / name).touch()


@pytest.mark.parametrize("name", ["co:lon", "com,ma", "back\\slash", "bl ank", "é"])
@pytest.mark.parametrize("depth", [2, 60])
def test_any_path_can_be_mounted(tmp_path: Path, name: str, depth: int) -> None:
    snapshotter = OverlaySnapshotter(tmp_path / name / "overlay", options=OPTIONS)
    parent: str | None = None
    for number in range(depth):
        make(snapshotter, f"s{number}", parent, partial(_touch, f"f{number}"))
        parent = f"s{number}"
    with snapshotter.mount(f"s{depth - 1}", readonly=True) as root:
        assert len(os.listdir(root)) == depth


def test_choice(tmp_path: Path) -> None:
    assert why_no_overlay(tmp_path, OPTIONS) is None
    choice = choose(tmp_path, is_mapped_user=namespace.is_mapped_user())
    assert choice.snapshotter.name == "overlay"
    make(choice.snapshotter, "base", None, base_tree)
    make(choice.snapshotter, "two", "base", lambda root: (root / "keep").unlink())
    assert choose(tmp_path, wanted="native").snapshotter.name == "native"
    assert sorted(os.listdir(tmp_path)) == ["snapshots"]


def test_bind(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    mounts.bind(str(tmp_path / "from"), str(tmp_path / "to"), readonly=True)
    try:
        (tmp_path / "from" / "f").touch()
        assert (tmp_path / "to" / "f").exists()
        with pytest.raises(OSError, match="Read-only"):
            (tmp_path / "to" / "g").touch()
    finally:
        mounts.unmount(str(tmp_path / "to"))
    assert not list((tmp_path / "to").iterdir())
    mounts.unmount(str(tmp_path / "to"))  # not mounted is no error
