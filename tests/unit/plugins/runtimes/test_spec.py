from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from torana.core.llb.ops import LinuxResources, Ulimit
from torana.core.ops.runtime import (
    ContainerMount,
    ContainerNetwork,
    ContainerSpec,
    DeviceNode,
    Hook,
    User,
)
from torana.plugins.runtimes.spec import HostTraits, cgroup_path, oci_spec

CONTAINER = ContainerSpec(
    id="abc",
    directory=Path("/d"),
    rootfs=Path("/r"),
    args=("true",),
    env=("A=1",),
    hostname="h",
)
HOST = HostTraits(has_cgroup2=False, manages_cgroups=True, seccomp={"defaultAction": "X"})


def spec(host: HostTraits = HOST, **changes: Any) -> dict[str, Any]:
    return oci_spec(replace(CONTAINER, **changes), host)


def test_golden() -> None:
    document = spec()
    capabilities = [
        f"CAP_{name}"
        for name in (
            "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP "
            "NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"
        ).split()
    ]
    devices = document["linux"]["resources"].pop("devices")
    mounts = document.pop("mounts")
    assert document == {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0, "additionalGids": [0]},
            "args": ["true"],
            "env": ["A=1"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
            },
            "noNewPrivileges": False,
        },
        "root": {"path": "/r", "readonly": False},
        "hostname": "h",
        "linux": {
            "namespaces": [{"type": t} for t in ("pid", "ipc", "uts", "mount")],
            "cgroupsPath": "/buildkit/abc",
            "resources": {},
            "maskedPaths": [
                "/proc/acpi",
                "/proc/asound",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/timer_list",
                "/proc/timer_stats",
                "/proc/sched_debug",
                "/proc/scsi",
                "/sys/firmware",
                "/sys/devices/virtual/powercap",
            ],
            "readonlyPaths": [
                "/proc/bus",
                "/proc/fs",
                "/proc/irq",
                "/proc/sys",
                "/proc/sysrq-trigger",
            ],
            "seccomp": {"defaultAction": "X"},
        },
    }
    assert devices[0] == {"allow": False, "access": "rwm"}
    assert {"allow": True, "type": "c", "major": 1, "minor": 5, "access": "rwm"} in devices
    assert not any(d["allow"] and d["access"] == "rwm" and d["type"] == "b" for d in devices)
    assert [(m["destination"], m["type"], ",".join(m["options"])) for m in mounts] == [
        ("/proc", "proc", "nosuid,noexec,nodev"),
        ("/dev", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
        ("/sys", "sysfs", "nosuid,noexec,nodev,ro"),
        ("/dev/pts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
        ("/dev/shm", "tmpfs", "nosuid,noexec,nodev,mode=1777,size=65536k"),
        ("/dev/mqueue", "mqueue", "nosuid,noexec,nodev"),
        ("/sys/fs/cgroup", "cgroup", "nosuid,noexec,nodev,relatime,ro"),
    ]


def test_own_mounts_are_replaced_and_parents_come_first() -> None:
    mounts = (
        ContainerMount(destination="/m", source="/s", options=("ro",)),
        ContainerMount(destination="/dev/shm", kind="tmpfs", options=("size=1",)),
    )
    found = {m["destination"]: m for m in spec(mounts=mounts)["mounts"]}
    order = list(found)
    assert order.index("/dev") < order.index("/dev/shm")
    assert found["/dev/shm"]["options"] == ["size=1"]
    assert found["/m"] == {
        "destination": "/m",
        "type": "bind",
        "source": "/s",
        "options": ["rbind", "ro"],
    }


def kinds(document: dict[str, Any]) -> set[str]:
    return {entry["type"] for entry in document["linux"]["namespaces"]}


def test_namespaces() -> None:
    assert "network" not in kinds(spec())
    assert "network" in kinds(spec(network=ContainerNetwork.NONE))
    assert "cgroup" in kinds(spec(replace(HOST, has_cgroup2=True)))


def test_insecure() -> None:
    document = spec(replace(HOST, annotations={"a": "b"}), insecure=True)
    linux = document["linux"]
    assert not {"seccomp", "maskedPaths", "readonlyPaths"} & linux.keys()
    assert "annotations" not in document
    for kind in ("bounding", "effective", "inheritable", "permitted", "ambient"):
        assert "CAP_SYS_ADMIN" in document["process"]["capabilities"][kind]
    for kind in ("b", "c"):
        assert {"allow": True, "type": kind, "access": "rwm"} in linux["resources"]["devices"]
    options = {m["destination"]: m["options"] for m in document["mounts"]}
    assert "rw" in options["/sys"]
    assert "rw" in options["/sys/fs/cgroup"]
    few = spec(replace(HOST, capabilities=frozenset({"CAP_CHOWN"})), insecure=True)
    assert few["process"]["capabilities"]["ambient"] == ["CAP_CHOWN"]


def test_limits() -> None:
    document = spec(
        ulimits=(Ulimit("nofile", 1, -1),),
        resources=LinuxResources(memory=1, memory_swap=-1, cpu_shares=2, cpuset_cpus="0"),
        user=User(1, 2, (2, 3)),
        readonly_rootfs=True,
    )
    assert document["process"]["rlimits"] == [
        {"type": "RLIMIT_NOFILE", "hard": 2**64 - 1, "soft": 1}
    ]
    assert document["process"]["user"] == {"uid": 1, "gid": 2, "additionalGids": [2, 3]}
    assert document["root"]["readonly"]
    resources = document["linux"]["resources"]
    assert resources["memory"] == {"limit": 1, "swap": -1}
    assert resources["cpu"] == {"shares": 2, "cpus": "0"}


def test_no_rlimits_without_ulimits() -> None:
    assert "rlimits" not in spec()["process"]


@pytest.mark.parametrize(
    ("parent", "path"),
    [
        ("", "/buildkit/abc"),
        ("p", "/p/buildkit/abc"),
        ("/p/q/", "/p/q/buildkit/abc"),
        ("../../p", "/p/buildkit/abc"),
        ("system.slice:torana:", "system.slice:torana:abc"),
        ("../../../etc/x.slice:..:", "etc/x.slice::abc"),
        ("/a/../../x.slice:", "x.slice:abc"),
    ],
)
def test_cgroup_path(parent: str, path: str) -> None:
    assert cgroup_path(replace(CONTAINER, cgroup_parent=parent)) == path


def test_rootless() -> None:
    document = spec(HostTraits(has_cgroup2=True, manages_cgroups=False, is_rootless=True))
    mounts = {m["destination"]: m for m in document["mounts"]}
    assert mounts["/sys"]["type"] == "bind"
    assert "ro" in mounts["/sys"]["options"]
    assert mounts["/sys/fs/cgroup"]["type"] == "tmpfs"  # the host's groups are not shown
    assert "ro" in mounts["/sys/fs/cgroup"]["options"]
    assert "gid=5" not in mounts["/dev/pts"]["options"]
    assert not {"cgroupsPath", "resources"} & document["linux"].keys()


def test_apparmor_and_devices() -> None:
    node = DeviceNode(path="/dev/x", host_path="/dev/y", kind="c", major=9, minor=8, access="r")
    hooks = (Hook(stage="prestart", path="/h", args=("h", "1"), timeout_s=3),)
    document = spec(apparmor_profile="mine", devices=(node,), hooks=hooks)
    assert document["process"]["apparmorProfile"] == "mine"
    assert document["hooks"] == {
        "prestart": [{"path": "/h", "args": ["h", "1"], "env": [], "timeout": 3}]
    }
    (given,) = document["linux"]["devices"]
    assert (given["path"], given["major"], given["minor"]) == ("/dev/x", 9, 8)
    rule = {"allow": True, "type": "c", "major": 9, "minor": 8, "access": "r"}
    assert document["linux"]["resources"]["devices"][-1] == rule
    insecure = spec(apparmor_profile="mine", insecure=True)
    assert "apparmorProfile" not in insecure["process"]


def test_processes_are_limited_where_there_is_a_controller() -> None:
    limited = spec(pids_limit=7)
    assert limited["linux"]["resources"]["pids"] == {"limit": 7}
    other = spec(replace(HOST, limits_pids=False), pids_limit=7)
    assert "pids" not in other["linux"]["resources"]


def test_selinux_labels() -> None:
    document = spec(selinux_label="p", mount_label="f")
    assert document["process"]["selinuxLabel"] == "p"
    assert document["linux"]["mountLabel"] == "f"
    plain = spec()
    assert "selinuxLabel" not in plain["process"] and "mountLabel" not in plain["linux"]
