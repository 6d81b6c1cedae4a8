"""The tests of steps, overlays and builds, as root of namespaces such as ordinary users build in.

What cannot work there is an expected failure of the test itself, with its reason: see `who.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.rootless.conftest import HAS_FUSE, Builder, make_builder, with_fuse

pytestmark = pytest.mark.needs(
    "root", "runc", "crun", "bwrap", "busybox", "newuidmap", "setpriv", "useradd"
)

INSIDE = Path(__file__).with_name("inside.py")
TESTS = Path(__file__).resolve().parents[1]
ALONE = {"steps": ("ops/test_steps.py",), "runtimes": ("ops/test_runtime_suite.py",)}
FILES = {
    **ALONE,
    "ops": tuple(
        sorted(
            name
            for name in (f"ops/{path.name}" for path in (TESTS / "ops").glob("test_*.py"))
            if (name,) not in ALONE.values()
        )
    ),
    "builds": (
        "core/test_overlay.py",
        "dockerfile/test_access.py",
        "dockerfile/test_steps.py",
        "gateway/test_child.py",
        "gateway/test_exec_stream.py",
    ),
}
FUSE = ("core/test_fuse_builds.py",)


@pytest.mark.parametrize("files", FILES.values(), ids=FILES)
@pytest.mark.parametrize("who", ["ranges", "single", "container"])
def test_same(
    request: pytest.FixtureRequest, folder: Path, who: str, files: tuple[str, ...]
) -> None:
    _run(make_builder(request, who, folder), files)


@pytest.mark.needs("fuse-overlayfs", "unshare")
@pytest.mark.skipif(not HAS_FUSE, reason="the kernel has no FUSE")
@pytest.mark.parametrize("who", ["ranges", "single"])
def test_same_on_fuse(request: pytest.FixtureRequest, folder: Path, who: str) -> None:
    _run(with_fuse(make_builder(request, who, folder)), FUSE)


def _run(builder: Builder, files: tuple[str, ...]) -> None:
    folder = builder.folder
    folder.chmod(0o755)  # a Python for other users is in it
    temporary = folder / "temporary"
    temporary.mkdir()
    os.chown(temporary, folder.stat().st_uid, -1)
    options = ["-q", "-rs", "-p", "no:cacheprovider", f"--basetemp={temporary / 'tests'}"]
    done = subprocess.run(
        [*builder.prefix, sys.executable, "-B", INSIDE, folder, *options, *files],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "HOME": str(folder),
            "TMPDIR": str(temporary),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=TESTS,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout.splitlines()[-1]
    assert "skipped" not in done.stdout
