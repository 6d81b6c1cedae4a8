"""The OCI runtime spec (`config.json`) of a container. Pure.

Spec: reference of exec, sections 7, 10, 13 and 20; OCI runtime specification 1.0.2.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from typing import Any, Final

from torana.core.llb.ops import LinuxResources
from torana.core.ops.runtime import (
    ContainerMount,
    ContainerNetwork,
    ContainerSpec,
    DeviceNode,
    Hook,
    ProcessSpec,
    User,
)
from torana.core.records import dataclass
from torana.core.snapshots.rootfs import clean

CAPABILITIES: Final = tuple(
    f"CAP_{name}"
    for name in (
        "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP "
        "NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"
    ).split()
)
ALL_CAPABILITIES: Final = (
    *CAPABILITIES,
    *(
        f"CAP_{name}"
        for name in (
            "DAC_READ_SEARCH LINUX_IMMUTABLE NET_BROADCAST NET_ADMIN IPC_LOCK IPC_OWNER SYS_MODULE "
            "SYS_RAWIO SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME "
            "SYS_TTY_CONFIG LEASE AUDIT_CONTROL MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM "
            "BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
        ).split()
    ),
)
MASKED_PATHS: Final = (
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
)
READONLY_PATHS: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
PRIVILEGED_NODES: Final = (
    "/dev/kmsg",
    "/dev/cuse",
    "/dev/fuse",
    "/dev/kvm",
    "/dev/net/tun",
    "/dev/loop-control",
    *(f"/dev/loop{i}" for i in range(8)),
)
DEVICE_RULES: Final[tuple[dict[str, Any], ...]] = (
    {"allow": False, "access": "rwm"},
    {"allow": True, "type": "c", "access": "m"},
    {"allow": True, "type": "b", "access": "m"},
    *(
        {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"}
        for major, minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2))
    ),
    {"allow": True, "type": "c", "major": 136, "access": "rwm"},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTraits:
    """What the machine and the runtime allow."""

    has_cgroup2: bool  # a pure cgroup2 lies at /sys/fs/cgroup as the runtime sees it
    manages_cgroups: bool  # the runtime makes cgroups, and so can limit devices and resources
    limits_pids: bool = True  # there is a controller for it
    is_rootless: bool = False  # root within a user namespace only
    seccomp: Mapping[str, Any] | None = None
    annotations: Mapping[str, str] | None = None
    capabilities: frozenset[str] | None = None  # those that the kernel knows; None is all


def oci_spec(container: ContainerSpec, host: HostTraits) -> dict[str, Any]:
    """Give the document for `container`."""
    process = process_spec(
        ProcessSpec(
            args=container.args,
            env=container.env,
            cwd=container.cwd,
            user=container.user,
            insecure=container.insecure,
            apparmor_profile=container.apparmor_profile,
            selinux_label=container.selinux_label,
            is_terminal=container.is_terminal,
        ),
        host,
    )
    if container.ulimits:
        process["rlimits"] = [_rlimit(u.name, u.soft, u.hard) for u in container.ulimits]
    document: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": str(container.rootfs), "readonly": container.readonly_rootfs},
        "hostname": container.hostname,
        "mounts": [_mount(mount) for mount in _mounts(container, host)],
        "linux": _linux(container, host),
    }
    if container.hooks:
        document["hooks"] = _hooks(container.hooks)
    if host.annotations and not container.insecure:
        document["annotations"] = dict(host.annotations)
    return document


def process_spec(process: ProcessSpec, host: HostTraits) -> dict[str, Any]:
    """Give the `process` part of a document, which is also what `exec` takes."""
    document: dict[str, Any] = {
        "terminal": process.is_terminal,
        "user": _user(process.user),
        "args": list(process.args),
        "env": list(process.env),
        "cwd": process.cwd,
        "capabilities": _capabilities(process.insecure, host),
        "noNewPrivileges": False,
    }
    if process.apparmor_profile and not process.insecure:
        document["apparmorProfile"] = process.apparmor_profile
    if process.selinux_label:
        document["selinuxLabel"] = process.selinux_label
    return document


def _user(user: User) -> dict[str, Any]:
    out: dict[str, Any] = {"uid": user.uid, "gid": user.gid}
    # The primary group is among the supplementary ones, as the container engines do it.
    out["additionalGids"] = list(dict.fromkeys((user.gid, *user.groups)))
    return out


def _capabilities(insecure: bool, host: HostTraits) -> dict[str, list[str]]:
    if not insecure:
        names = list(CAPABILITIES)
        return {"bounding": names, "effective": names, "permitted": names}
    known = host.capabilities
    names = [name for name in ALL_CAPABILITIES if known is None or name in known]
    kinds = ("bounding", "effective", "inheritable", "permitted", "ambient")
    return {kind: names for kind in kinds}


def _rlimit(name: str, soft: int, hard: int) -> dict[str, Any]:
    unlimited = 2**64 - 1
    return {
        "type": f"RLIMIT_{name.upper()}",
        "hard": unlimited if hard == -1 else hard,
        "soft": unlimited if soft == -1 else soft,
    }


def _linux(container: ContainerSpec, host: HostTraits) -> dict[str, Any]:
    kinds = ["pid", "ipc", "uts", "mount"]
    if container.network is ContainerNetwork.NONE:
        kinds.append("network")
    if host.has_cgroup2:
        kinds.append("cgroup")
    namespaces = [{"type": kind} for kind in kinds]
    if container.network is ContainerNetwork.SANDBOX:
        namespaces.append({"type": "network", "path": str(container.network_namespace)})
    linux: dict[str, Any] = {"namespaces": namespaces}
    if container.mount_label:
        linux["mountLabel"] = container.mount_label
    if host.manages_cgroups:
        linux["cgroupsPath"] = cgroup_path(container)
        linux["resources"] = _resources(container, host)
    nodes = [_device(node) for node in container.devices]
    if container.insecure:
        nodes += _nodes()
    if nodes:
        linux["devices"] = nodes
    if container.insecure:
        return linux
    linux["maskedPaths"] = list(MASKED_PATHS)
    linux["readonlyPaths"] = list(READONLY_PATHS)
    if host.seccomp is not None:
        linux["seccomp"] = host.seccomp
    return linux


def cgroup_path(container: ContainerSpec) -> str:
    """Give the path of the container's cgroup, below the root of each hierarchy.

    The parent comes from whoever writes the build: no part of it leads up.
    """
    parent = container.cgroup_parent
    if ".slice" in parent and parent.endswith(":"):
        parts = (part.strip("/") for part in parent.split(":"))
        return ":".join(clean(part).lstrip("/") for part in parts) + container.id
    return f"{clean(parent).rstrip('/')}/buildkit/{container.id}"


def _resources(container: ContainerSpec, host: HostTraits) -> dict[str, Any]:
    rules = list(DEVICE_RULES)
    if container.insecure:
        rules += [{"allow": True, "type": kind, "access": "rwm"} for kind in ("c", "b")]
    rules += [device_rule(node) for node in container.devices if node.kind != "p"]
    out: dict[str, Any] = {"devices": rules}
    wanted = container.resources or LinuxResources()
    memory = {"limit": wanted.memory, "swap": wanted.memory_swap}
    pids = {"limit": container.pids_limit if host.limits_pids else 0}
    cpu = {
        "shares": wanted.cpu_shares,
        "quota": wanted.cpu_quota,
        "period": wanted.cpu_period,
        "cpus": wanted.cpuset_cpus,
        "mems": wanted.cpuset_mems,
    }
    for name, limits in (("memory", memory), ("cpu", cpu), ("pids", pids)):
        given = {key: value for key, value in limits.items() if value}
        if given:
            out[name] = given
    return out


def _device(node: DeviceNode) -> dict[str, Any]:
    return {
        "path": node.path,
        "type": node.kind,
        "major": node.major,
        "minor": node.minor,
        "fileMode": node.mode,
        "uid": node.uid,
        "gid": node.gid,
    }


def device_rule(node: DeviceNode) -> dict[str, Any]:
    """Give the rule of a devices cgroup that lets a device be used."""
    return {
        "allow": True,
        "type": node.kind,
        "major": node.major,
        "minor": node.minor,
        "access": node.access,
    }


def _hooks(hooks: Sequence[Hook]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for hook in hooks:
        made: dict[str, Any] = {"path": hook.path, "args": list(hook.args), "env": list(hook.env)}
        if hook.timeout_s:
            made["timeout"] = hook.timeout_s
        found.setdefault(hook.stage, []).append(made)
    return found


def _nodes() -> list[dict[str, Any]]:
    """Give the nodes of the host that an insecure container gets."""
    nodes = []
    for path in PRIVILEGED_NODES:
        try:
            found = os.stat(path)
        except OSError:
            continue
        if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
            nodes.append(
                {
                    "path": path,
                    "type": "c" if stat.S_ISCHR(found.st_mode) else "b",
                    "major": os.major(found.st_rdev),
                    "minor": os.minor(found.st_rdev),
                    "fileMode": stat.S_IMODE(found.st_mode),
                    "uid": found.st_uid,
                    "gid": found.st_gid,
                }
            )
    return nodes


def _mounts(container: ContainerSpec, host: HostTraits) -> list[ContainerMount]:
    safe = ("nosuid", "noexec", "nodev")
    access = "rw" if container.insecure else "ro"
    pts_group = () if host.is_rootless else ("gid=5",)
    own = [
        _special("proc", "/proc", *safe),
        _special("tmpfs", "/dev", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _special(
            "devpts",
            "/dev/pts",
            "nosuid",
            "noexec",
            "newinstance",
            "ptmxmode=0666",
            "mode=0620",
            *pts_group,
        ),
        _special("tmpfs", "/dev/shm", *safe, "mode=1777", "size=65536k"),
        _special("mqueue", "/dev/mqueue", *safe),
    ]
    if host.is_rootless and container.network is ContainerNetwork.HOST:
        # Without a network namespace of our own, the kernel gives no new sysfs.
        own.append(
            ContainerMount(destination="/sys", source="/sys", options=("rbind", *safe, access))
        )
        if not container.insecure:
            # Only the top of a bind becomes read-only, and root of a container may write to groups.
            own.append(_special("tmpfs", "/sys/fs/cgroup", *safe, "mode=755", "ro"))
    else:
        own.append(_special("sysfs", "/sys", *safe, access))
        if not host.is_rootless:
            own.append(_special("cgroup", "/sys/fs/cgroup", *safe, "relatime", access))
    given = {mount.destination for mount in container.mounts}
    kept = [mount for mount in own if mount.destination not in given]
    return _parents_first([*kept, *container.mounts])


def _parents_first(mounts: list[ContainerMount]) -> list[ContainerMount]:
    return sorted(mounts, key=lambda mount: mount.destination.count("/"))


def _special(kind: str, destination: str, *options: str) -> ContainerMount:
    return ContainerMount(destination=destination, source=kind, kind=kind, options=options)


def _mount(mount: ContainerMount) -> dict[str, Any]:
    options = list(mount.options)
    if mount.kind == "bind" and "rbind" not in options:
        options.insert(0, "rbind")
    return {
        "destination": mount.destination,
        "type": mount.kind,
        "source": mount.source,
        "options": options,
    }
