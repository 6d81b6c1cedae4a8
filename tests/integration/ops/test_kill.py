"""Nothing survives the death of the process that runs steps, and the next one clears up."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.integration import who

from torana.core.ops.exec.folder import ExecutorFolder, reconcile
from torana.plugins.runtimes import cgroups

pytestmark = pytest.mark.needs("root", "runc", "crun", "busybox")

PROGRAM = """
import asyncio, sys
from pathlib import Path
from torana.core.snapshots import namespace
namespace.enter()
from torana.core.ops.exec.folder import ExecutorFolder
from torana.core.ops.runtime import ContainerSpec
from torana.plugins.runtimes.{module} import {name}

async def main():
    folder = ExecutorFolder(Path(sys.argv[1]))
    with folder.container() as (id, directory):
        spec = ContainerSpec(
            id=id,
            directory=directory,
            rootfs=Path(sys.argv[2]),
            args=("sh", "-c", "trap '' TERM HUP INT; sleep 4721 & echo up; sleep 4722"),
            env=("PATH=/bin",),
        )
        await {name}().run(spec, lambda stream, data: print(data.decode(), flush=True))

asyncio.run(main())
"""


def running(*marks: str) -> list[str]:
    """Give the command lines that contain any of `marks`, but for this process."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                line = Path("/proc", name, "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (OSError, UnicodeDecodeError):
                continue
            if any(mark in line for mark in marks):
                found.append(line)
    return found


@pytest.mark.parametrize(
    ("module", "name"), [("crun", "CrunRuntime"), ("runc", "RuncRuntime")], ids=["crun", "runc"]
)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_kill(
    tmp_path: Path, busybox_tree: Path, module: str, name: str, number: signal.Signals
) -> None:
    root = tmp_path / "root"
    tree = tmp_path / "tree"  # the runtime leaves folders in it
    subprocess.run(["cp", "-a", str(busybox_tree), str(tree)], check=True)
    program = PROGRAM.replace("{module}", module).replace("{name}", name)
    with subprocess.Popen(
        [sys.executable, "-c", program, str(root), str(tree)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        assert len(running("sleep 4721", "sleep 4722")) >= 2
        process.send_signal(number)
        process.wait(60)
    deadline = time.monotonic() + 30
    while left := running("sleep 4721", "sleep 4722", str(root)):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)
    # Its mounts were in its own namespace, and its folder goes with the next start.
    assert str(root) not in Path("/proc/self/mounts").read_text()
    (left_folder,) = os.listdir(root / "executor")
    assert reconcile(root / "executor") == [left_folder]
    assert os.listdir(root / "executor") == []


def test_reconcile_kills_left_containers(tmp_path: Path) -> None:
    """A process that somehow lived on is found by the folder in its arguments."""
    dead = tmp_path / "executor/123-abc"
    dead.mkdir(parents=True)
    argument = f"--root={dead}/run/x/state"
    # Its arguments can be read for certain only when it runs: it says so.
    with subprocess.Popen(
        ["sh", "-c", "echo up; read line", argument],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        ExecutorFolder(tmp_path).close()
        assert process.wait(60) == -signal.SIGKILL
    assert not dead.exists()


def test_folders_of_living_processes_stay(tmp_path: Path) -> None:
    alive = tmp_path / "executor/123-abc"
    alive.mkdir(parents=True)
    with open(alive / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ExecutorFolder(tmp_path).close()
        assert alive.exists()
    ExecutorFolder(tmp_path).close()
    assert os.listdir(tmp_path / "executor") == []


@who.groups
@pytest.mark.skipif(cgroups.has_pure_cgroup2(), reason="makes groups of version 1")
def test_sweep_removes_old_empty_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Path("/sys/fs/cgroup/pids/buildkit/torana-test")
    group.mkdir(parents=True)
    try:
        cgroups.sweep()
        assert group.exists()
        monkeypatch.setattr(cgroups, "_OLD_S", -1)
        with subprocess.Popen(["sleep", "100"]) as process:
            (group / "cgroup.procs").write_text(str(process.pid))
            cgroups.sweep()
            assert group.exists()
            process.kill()
        cgroups.remove_group("/buildkit/torana-test")
        assert not group.exists()
    finally:
        if group.exists():
            group.rmdir()
