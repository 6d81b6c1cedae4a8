"""The native snapshotter as an ordinary user, whom modes bind."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("root")

_CODE = """
import os, sys, pathlib
from torana.core.snapshots.native import NativeSnapshotter
import tempfile, shutil  # all imports before: the interpreter may be root's own
os.setgroups([]); os.setgid(65534); os.setuid(65534)
folder = pathlib.Path(sys.argv[1])
snapshots = NativeSnapshotter(folder / "snapshots")
snapshots.prepare("k", None)
with snapshots.mount("k", readonly=False) as root:
    (root / "d" / "e").mkdir(parents=True)
    (root / "d" / "e" / "f").write_text("f")
    os.setxattr(root / "d" / "e" / "f", "user.k", b"v")
    (root / "d" / "e" / "f").chmod(0o444)
    (root / "d" / "e").chmod(0o555)
    (root / "d").chmod(0o500)
snapshots.commit("k", "one")
snapshots.prepare("k", "one")
snapshots.commit("k", "two")
with snapshots.mount("two", readonly=True) as root:
    file = root / "d" / "e" / "f"
    assert file.stat().st_mode & 0o777 == 0o444
    assert (root / "d").stat().st_mode & 0o777 == 0o500
    assert os.getxattr(file, "user.k") == b"v"
assert list(snapshots.changes("two", "one")) == []
snapshots.remove("one")
snapshots.remove("two")
snapshots.sweep()
assert os.listdir(folder / "snapshots") == ["trash"]
assert os.listdir(folder / "snapshots" / "trash") == []
"""


def test_modes_that_forbid_writing() -> None:
    with tempfile.TemporaryDirectory() as text:
        os.chmod(text, 0o777)
        done = subprocess.run(
            [sys.executable, "-c", _CODE, text],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            cwd=Path("/"),
        )
        assert done.returncode == 0, done.stderr.decode()
