"""Groups of version 1 for limits, on folders that stand for hierarchies."""

from __future__ import annotations

from pathlib import Path

import pytest

from torana.core.llb.ops import LinuxResources
from torana.core.ops.runtime import ContainerSpec, DeviceNode, RuntimeFailedError
from torana.plugins.runtimes import cgroup2, cgroups


@pytest.fixture
def hierarchies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("pids", "memory", "cpu"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(cgroups, "_MOUNT", tmp_path)
    return tmp_path


def spec(**members: object) -> ContainerSpec:
    return ContainerSpec(
        **{
            "id": "abc",
            "directory": Path("/d"),
            "rootfs": Path("/r"),
            "args": ("x",),
            "pids_limit": 9,
            **members,
        }  # type: ignore[arg-type]  # members of any type
    )


def test_limits_are_written(hierarchies: Path) -> None:
    limits = LinuxResources(memory=5, memory_swap=-1, cpu_quota=2, cpu_period=3)
    wanted = spec(resources=limits, cgroup_parent="a/b")
    place = "a/b/buildkit/abc"
    made = cgroups.step_groups(wanted)
    assert made == tuple(hierarchies / name / place for name in ("pids", "memory", "cpu"))
    files = {p.name: p.read_text() for p in hierarchies.rglob("*") if p.is_file()}
    assert files == {
        "pids.max": "9",
        "memory.limit_in_bytes": "5",
        "memory.memsw.limit_in_bytes": "-1",
        "cpu.cfs_period_us": "3",
        "cpu.cfs_quota_us": "2",
    }
    assert cgroups.step_groups(wanted) == made


@pytest.mark.parametrize("parent", ["../../out", "../../out.slice:", "x:../..:../out.slice:"])
def test_no_parent_leads_out(
    hierarchies: Path, parent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = hierarchies / "memory"
    (top / "pids").mkdir()
    monkeypatch.setattr(cgroups, "_MOUNT", top)
    (group,) = cgroups.step_groups(spec(cgroup_parent=parent))
    assert (top / "pids").resolve() in group.resolve().parents
    assert {path.name for path in hierarchies.iterdir()} == {"cpu", "memory", "pids"}
    assert {path.name for path in top.iterdir()} == {"pids"}


def test_no_limits_no_groups(hierarchies: Path) -> None:
    assert cgroups.step_groups(spec(pids_limit=0)) == ()
    assert not any(path.is_file() for path in hierarchies.rglob("*"))


def test_our_own_limit_is_no_reason_to_fail(hierarchies: Path) -> None:
    (hierarchies / "pids").rmdir()
    assert cgroups.step_groups(spec()) == ()
    assert not cgroups.has_controller("pids")


@pytest.mark.parametrize(
    "wanted",
    [
        {"resources": LinuxResources(cpuset_cpus="0")},
        {"devices": (DeviceNode(path="/x", host_path="/x", kind="c", major=1, minor=2),)},
    ],
)
def test_what_a_step_asks_for_is_kept_or_refused(
    hierarchies: Path, wanted: dict[str, object]
) -> None:
    (hierarchies / "devices").mkdir()
    (hierarchies / "devices/buildkit").write_text("in the way")
    with pytest.raises(RuntimeFailedError, match=r"limits of a step cannot be set: [a-z]"):
        cgroups.step_groups(spec(**wanted))


def test_controllers_of_version_2(hierarchies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (hierarchies / "cgroup.controllers").write_text("cpu memory\n")
    assert cgroups.has_controller("memory")
    assert not cgroups.has_controller("pids")
    monkeypatch.setattr(cgroup2, "usable_base", lambda: None)
    assert not cgroups.can_limit()
    assert cgroups.step_groups(spec()) == ()
    monkeypatch.setattr(cgroup2, "usable_base", lambda: hierarchies)
    monkeypatch.setattr(cgroup2, "hand_down", lambda *_: None)
    assert cgroups.can_limit()
    limits = LinuxResources(memory=5)
    (made,) = cgroups.step_groups(spec(resources=limits, cgroup_parent="a.slice:b:"))
    assert made == hierarchies / "a.slice/b/abc"
    assert [path.name for path in made.iterdir()] == ["memory.max"], "no controller for pids"
