"""fuse-overlayfs, on real mounts in a mount namespace of this process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from torana.core.errors import UnsupportedError, UserError
from torana.core.snapshots import choose as choosing
from torana.core.snapshots import namespace
from torana.core.snapshots.choose import choose
from torana.core.snapshots.fuseoverlay import FuseOverlaySnapshotter
from torana.core.snapshots.snapshotter import Snapshotter
from torana.core.testing.snapshotters import SnapshotterSuite, make
from torana.core.testing.stacks import StackSuite

pytestmark = [
    pytest.mark.needs("root", "fuse-overlayfs"),
    pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="the kernel has no FUSE"),
]


@pytest.fixture(autouse=True, scope="module")
def private_mounts() -> None:
    if os.geteuid() == 0:
        namespace.enter()


class TestFuseOverlay(SnapshotterSuite, StackSuite):
    builtins = ("fuse-overlayfs",)

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path / "store" / "fuse-overlayfs"

    @pytest.fixture
    def snapshotter(self, folder: Path) -> Snapshotter:
        return FuseOverlaySnapshotter(folder)

    def test_nothing_is_left(self, based: Snapshotter, tmp_path: Path) -> None:
        make(based, "two", "base", lambda root: None)
        list(based.changes("two", "base"))
        assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
        assert _servers(tmp_path) == []
        based.close()
        assert list((tmp_path / "store" / "mounts").iterdir()) == []


_HOLD = """
import sys, pathlib
from torana.core.snapshots import namespace
from torana.core.snapshots.fuseoverlay import FuseOverlaySnapshotter
namespace.enter()
snapshots = FuseOverlaySnapshotter(pathlib.Path(sys.argv[1]))
for name, parent in (("one", None), ("two", "one")):
    snapshots.prepare(name, parent)
    snapshots.commit(name, name)
with snapshots.mount("two", readonly=True) as root:
    print("mounted", flush=True)
    sys.stdin.read()
"""


def test_it_dies_with_its_process(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path / "fuse-overlayfs")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"mounted\n"
        assert len(_servers(tmp_path)) == 1
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while _servers(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_it_says_is_passed_on(tmp_path: Path) -> None:
    snapshots = FuseOverlaySnapshotter(tmp_path / "fuse-overlayfs", program="false")
    make(snapshots, "one", None, lambda root: None)
    snapshots.prepare("two", "one")
    with pytest.raises(UnsupportedError, match="fuse-overlayfs cannot mount: it does not begin"):
        with snapshots.mount("two", readonly=False):
            pass
    snapshots.close()
    assert list((tmp_path / "mounts").iterdir()) == []


def test_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After overlay, before native."""
    monkeypatch.setattr(choosing, "why_no_overlay", lambda root, options: "no such device")
    choice = choose(tmp_path)
    assert choice.snapshotter.name == "fuse-overlayfs"
    assert choice.reason == "overlay mounts do not work here: no such device"
    assert sorted(os.listdir(tmp_path)) == ["snapshots"]
    assert choose(tmp_path, wanted="fuse-overlayfs").reason == "asked for; its start test passed"
    monkeypatch.setenv("PATH", "/nowhere")
    choice = choose(tmp_path)
    assert choice.snapshotter.name == "native"
    assert choice.reason == (
        "overlay mounts do not work here: no such device; "
        "fuse-overlayfs does not work here: `fuse-overlayfs` is not on PATH"
    )
    with pytest.raises(UserError, match="is not on PATH"):
        choose(tmp_path, wanted="fuse-overlayfs")


def _servers(folder: Path) -> list[int]:
    """Give the processes that serve mounts below a folder."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path("/proc", name, "cmdline").read_bytes()
        except OSError:
            continue
        if b"fuse-overlayfs\0-f" in line and os.fsencode(folder) in line:
            found.append(int(name))
    return found
