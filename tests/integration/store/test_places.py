"""Places that cannot be written to, and disks that are full."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.store.conftest import Project

pytestmark = pytest.mark.needs("root", "busybox", "unshare")


@pytest.mark.parametrize("root", ["/proc/none", "/dev/null", "/dev/null/store"])
@pytest.mark.parametrize("command", [("build", "."), ("du",)])
def test_a_store_that_cannot_be_made(project: Project, root: str, command: tuple[str, ...]) -> None:
    result = project.run(*command, TORANA_ROOT=root)
    if command == ("du",) and root != "/dev/null":  # nothing is there, nothing is shown
        assert result.returncode == 0
        return
    assert result.returncode == 1
    assert f"ERROR: cannot write `{root}`: " in result.stderr
    assert "hint: TORANA_ROOT names another folder" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("-o", "type=oci,dest=/proc/out"),
        ("-o", "type=tar,dest=/proc/out"),
        ("-o", "type=local,dest=/proc/out"),
        ("--metadata-file=/proc/out",),
        ("--iidfile=/proc/out",),
    ],
)
def test_an_output_that_cannot_be_made(project: Project, arguments: tuple[str, ...]) -> None:
    (project.context / "Dockerfile").write_text("FROM scratch\nCOPY busybox /\n")
    result = project.run("build", *arguments, ".")
    assert result.returncode == 1
    assert "ERROR: cannot write `/proc/out`: no such file or directory" in result.stderr
    assert "hint: " in result.stderr
    assert ".part" not in result.stderr + result.stdout


FULL_DISK = """
set -e
mount -t tmpfs -o size=16m tmpfs "$1"
export TORANA_ROOT="$1/store" TORANA_GC=off TORANA_NO_MEMO=1
torana() { "$PYTHON" -m torana "$@"; }
torana build -o type=oci,dest=/dev/null . 2>&1
cat /dev/zero > "$1/filler" 2> /dev/null || true
echo "CMD x" >> Dockerfile
head -c 300000 /dev/urandom > busybox
echo "--- build on a full disk"
torana build -o type=oci,dest=/dev/null . 2>&1 || echo "code $?"
echo "--- files to a full disk"
TORANA_ROOT="$2" torana build -o "$1/files" . 2>&1 || echo "code $?"
echo "--- prune"
torana prune --all 2>&1
echo "--- build again"
torana build -o type=oci,dest=/dev/null . 2>&1
torana debug check-store --blobs
"""


def test_a_full_disk_can_be_pruned(project: Project) -> None:
    (project.context / "Dockerfile").write_text("FROM scratch\nCOPY busybox /a\nCOPY busybox /b\n")
    disk = project.folder / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", FULL_DISK, "sh", str(disk), str(project.store)],
        cwd=project.context,
        env=project.environment(PYTHON=sys.executable),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    _, build, files, prune, again = done.stdout.split("--- ")
    assert "no space left on device" in build
    assert "hint: make room; `torana prune` removes build cache" in build
    assert "code 1" in build
    assert f"ERROR: cannot write `{disk}/files`: no space left on device" in files
    assert "hint: make room there" in files
    assert "Traceback" not in done.stdout
    assert "Total:" in prune
    assert "the store is consistent" in again
    assert not Path(disk / "store").exists()  # it was in a mount namespace
