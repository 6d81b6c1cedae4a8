"""Groups of version 2, on folders that stand for the hierarchy."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from torana.core.llb.ops import LinuxResources
from torana.plugins.runtimes import cgroup2


def group(path: Path, controllers: str = "cpu cpuset io memory pids", procs: str = "") -> Path:
    path.mkdir(exist_ok=True, parents=True)
    (path / "cgroup.controllers").write_text(f"{controllers}\n")
    (path / "cgroup.subtree_control").write_text("")
    (path / "cgroup.procs").write_text(procs)
    (path / "cgroup.type").write_text("domain")
    return path


@pytest.mark.parametrize(
    ("limits", "files"),
    [
        (LinuxResources(), []),
        (LinuxResources(memory=5), ["memory.max 5"]),
        (LinuxResources(memory=5, memory_swap=7), ["memory.max 5", "memory.swap.max 2"]),
        (LinuxResources(memory=5, memory_swap=5), ["memory.max 5", "memory.swap.max 0"]),
        (LinuxResources(memory_swap=-1), ["memory.swap.max max"]),
        (LinuxResources(cpu_shares=1024), ["cpu.weight 39"]),
        (LinuxResources(cpu_shares=2), ["cpu.weight 1"]),
        (LinuxResources(cpu_shares=10**9), ["cpu.weight 10000"]),
        (LinuxResources(cpu_quota=50_000), ["cpu.max 50000 100000"]),
        (LinuxResources(cpu_quota=-1, cpu_period=9), ["cpu.max max 9"]),
        (
            LinuxResources(cpuset_cpus="0-1", cpuset_mems="0"),
            ["cpuset.cpus 0-1", "cpuset.mems 0"],
        ),
    ],
)
def test_limits(limits: LinuxResources, files: list[str]) -> None:
    assert [" ".join(row) for row in cgroup2.limit_files(limits, 0)] == files
    assert [" ".join(row) for row in cgroup2.limit_files(limits, 9)] == ["pids.max 9", *files]


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is handed down from where, as the kernel allows it: groups with processes hand nothing.

    New folders have no such files by themselves.
    """
    found: list[str] = []

    def hand_down(path: Path, controllers: Iterable[str]) -> None:
        procs = path / "cgroup.procs"
        if procs.exists() and procs.read_text().strip():
            raise OSError(errno.EBUSY, "busy")
        found.extend(f"{path.name} {name}" for name in controllers)

    monkeypatch.setattr(cgroup2, "hand_down", hand_down)
    return found


def test_controllers_are_handed_down_from_the_base(tmp_path: Path, handed: list[str]) -> None:
    base = group(tmp_path / "base")
    limits = LinuxResources(memory=5, cpu_quota=3)
    made = cgroup2.make_group(base, "/p/buildkit/abc", limits, 9)
    assert made == base / "p/buildkit/abc"
    controllers = ("cpu", "memory", "pids")
    assert handed == [f"{name} {c}" for name in ("base", "p", "buildkit") for c in controllers]
    found = {path.name: path.read_text() for path in made.iterdir()}
    assert found == {"pids.max": "9", "memory.max": "5", "cpu.max": "3 100000"}
    assert cgroup2.make_group(base, "/p/buildkit/abc", limits, 9) == made
    assert cgroup2.make_group(base, "/other", LinuxResources(), 0) is None
    assert not (base / "other").exists()


def test_handing_down_names_what_is_missing_only(tmp_path: Path) -> None:
    base = group(tmp_path / "base")
    (base / "cgroup.subtree_control").write_text("memory\n")
    cgroup2.hand_down(base, ["memory"])
    assert (base / "cgroup.subtree_control").read_text() == "memory\n"
    cgroup2.hand_down(base, ["pids"])
    assert (base / "cgroup.subtree_control").read_text() == "+pids"


def test_the_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = group(tmp_path / "top")
    mine = group(top / "user.slice/mine.scope")
    own = tmp_path / "own"
    own.write_text("0::/user.slice/mine.scope\n")
    assert cgroup2.base_group(top, own) == top, "root has all of it"
    closed = {str(top), str(top / "cgroup.procs")}
    real = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: str(path) not in closed and real(path, mode)
    )
    assert cgroup2.base_group(top, own) == mine
    closed.add(str(mine / "cgroup.subtree_control"))
    assert cgroup2.base_group(top, own) is None, "not delegated"
    own.write_text("0::/../elsewhere\n")
    assert cgroup2.base_group(top, own) is None
    own.write_text("1:memory:/x\n")
    assert cgroup2.base_group(top, own) is None


def usable(monkeypatch: pytest.MonkeyPatch, base: Path) -> Path | None:
    monkeypatch.setattr(cgroup2, "base_group", lambda: base)
    cgroup2.usable_base.cache_clear()
    try:
        return cgroup2.usable_base()
    finally:
        cgroup2.usable_base.cache_clear()


@pytest.mark.parametrize("is_alone", [True, False])
def test_the_engine_leaves_a_base_that_it_is_alone_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handed: list[str], is_alone: bool
) -> None:
    pid = str(os.getpid())
    base = group(tmp_path / "base", procs=pid if is_alone else f"{pid}\n1\n")
    place = group(base / "torana-engine") / "cgroup.procs"
    real = Path.write_text

    def write(path: Path, text: str) -> int:
        if path == place:
            real(base / "cgroup.procs", "")  # as the kernel does it
        return real(path, text)

    monkeypatch.setattr(Path, "write_text", write)
    assert usable(monkeypatch, base) == (base if is_alone else None)
    assert place.read_text() == ("0" if is_alone else "")
    assert handed == []


def test_the_machine_s_own_top_may_have_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = group(tmp_path / "base", procs="1\n2\n")
    (base / "cgroup.type").unlink()
    assert usable(monkeypatch, base) == base
    assert usable(monkeypatch, group(tmp_path / "empty")) == tmp_path / "empty"


def test_nothing_to_hand_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert usable(monkeypatch, group(tmp_path / "base", "io hugetlb")) is None


def test_entry_leaves_nothing_open() -> None:
    entry = cgroup2.entry(7, is_inherited=False)
    assert entry.words[-1] == f"/proc/{os.getpid()}/fd/7" and entry.files == ()
    entry = cgroup2.entry(7, is_inherited=True)
    assert entry.words[-1] == "/proc/self/fd/7" and entry.files == (7,)
