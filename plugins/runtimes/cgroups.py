"""What kind of control groups the machine has, a devices cgroup (v1) for steps, and clearing up."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from torana.core.llb.ops import LinuxResources
from torana.core.ops.runtime import ContainerSpec, DeviceNode, RuntimeFailedError
from torana.core.snapshots.namespace import is_mapped_user
from torana.plugins.runtimes import cgroup2
from torana.plugins.runtimes.cgroup2 import Entry
from torana.plugins.runtimes.spec import DEVICE_RULES, cgroup_path, device_rule

log = logging.getLogger(__name__)

_MOUNT: Final = Path("/sys/fs/cgroup")
_NAME: Final = "torana-steps"
_PARENT: Final = "buildkit"  # of the containers' groups, as BuildKit has it
_OLD_S: Final = 60


def has_pure_cgroup2() -> bool:
    """Say whether a cgroup2 lies at /sys/fs/cgroup, and not version 1 or a mix of both."""
    return (_MOUNT / "cgroup.controllers").exists()


def has_controller(name: str) -> bool:
    """Say whether groups can be limited by this controller, of whatever version."""
    if has_pure_cgroup2():
        return name in (_MOUNT / "cgroup.controllers").read_text().split()
    return (_MOUNT / name).is_dir()


def can_limit() -> bool:
    """Say whether this process may make groups with limits, and start programs in them."""
    if has_pure_cgroup2():
        return cgroup2.usable_base() is not None
    return not is_mapped_user() and os.access(_MOUNT / "memory", os.W_OK)


def device_cgroup() -> Path | None:
    """Give a cgroup of version 1 in which only harmless devices work, made if missing.

    None where version 1 has no devices controller. The group is shared by all processes and stays;
    it appears complete, by a rename.

    Raises:
        OSError: it cannot be made.
    """
    parent = _own_group()
    if parent is None:
        return None
    group = parent / _NAME
    if group.exists():
        return group
    draft = parent / f"{_NAME}.{os.getpid()}"
    draft.mkdir(exist_ok=True)
    for rule in DEVICE_RULES:
        _write_rule(draft, rule)
    try:
        draft.rename(group)
    except FileExistsError:
        draft.rmdir()
    return group


def step_groups(spec: ContainerSpec) -> tuple[Path, ...]:
    """Make groups with the limits of a container, named as runc would do it.

    Doing it again gives the same ones. Where none can be made, a step that has no limits of its own
    runs without ours.

    Raises:
        RuntimeFailedError: a controller is missing, or refuses a limit.
    """
    path = cgroup_path(spec).replace(":", "/")
    try:
        if has_pure_cgroup2():
            return _make_group_of_version_2(path, spec)
        if spec.devices and not spec.insecure and (_MOUNT / "devices").is_dir():
            return (*_make_groups(path, spec), _make_device_group(path, spec.devices))
        return _make_groups(path, spec)
    except OSError as err:
        remove_group(path)
        has_device_group = bool(spec.devices) and not has_pure_cgroup2()
        if not has_device_group and spec.resources in (None, LinuxResources()):
            log.info("processes of steps are not limited: %s", err)
            return ()
        reason = (err.strerror or str(err)).lower()
        place = os.fsdecode(err.filename or path)
        raise RuntimeFailedError(f"limits of a step cannot be set: {reason}: `{place}`") from err


def _make_group_of_version_2(path: str, spec: ContainerSpec) -> tuple[Path, ...]:
    base = cgroup2.usable_base()
    if base is None:
        return ()
    pids_limit = spec.pids_limit if "pids" in cgroup2.available(base) else 0
    group = cgroup2.make_group(base, path, spec.resources or LinuxResources(), pids_limit)
    return () if group is None else (group,)


def _make_device_group(path: str, devices: Sequence[DeviceNode]) -> Path:
    """Make a group of version 1 in which these devices work, beside the harmless ones."""
    group = _MOUNT / "devices" / path.strip("/")
    if not group.is_dir():
        group.mkdir(parents=True)
        for rule in (*DEVICE_RULES, *map(device_rule, devices)):
            _write_rule(group, rule)
    return group


def _write_rule(group: Path, rule: Mapping[str, object]) -> None:
    file = group / ("devices.allow" if rule["allow"] else "devices.deny")
    file.write_text(_rule_text(rule))


def _make_groups(path: str, spec: ContainerSpec) -> tuple[Path, ...]:
    made = []
    limits = _limit_files(spec.resources or LinuxResources(), spec.pids_limit)
    for controller, files in limits.items():
        group = _MOUNT / controller / path.strip("/")
        if not group.is_dir():
            if not (_MOUNT / controller).is_dir():
                raise FileNotFoundError(errno.ENOENT, "no such controller", controller)
            group.mkdir(parents=True, exist_ok=True)
            if controller == "cpuset":  # both must be set for anything to run in it
                _inherit_cpuset(group)
            for name, value in files:
                (group / name).write_text(value)
        made.append(group)
    return tuple(made)


@contextmanager
def joined(groups: Sequence[Path], *, is_beside: bool = False) -> Iterator[Entry]:
    """Have the calling thread in groups that were made for it; they are removed at the end.

    Meanwhile something else may get mounted over them. Gives what a program needs that is to be in
    them: version 2 does not take threads. `is_beside` says that it sees another /proc than we do.
    """
    if groups and has_pure_cgroup2():
        (group,) = groups
        top = os.open(group.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        flags = os.O_WRONLY | os.O_CLOEXEC
        procs = os.open(f"{group.name}/cgroup.procs", flags, dir_fd=top)
        try:
            yield cgroup2.entry(procs, is_inherited=is_beside)
        finally:
            os.close(procs)
            _remove(group.name, top)
            os.close(top)
        return
    tops: list[int] = []
    places = [group.relative_to(_MOUNT) for group in groups]
    try:
        for place in places:
            flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
            tops.append(os.open(_MOUNT / place.parts[0], flags))
            _move_here(_below(place, "tasks"), tops[-1])
        yield Entry()
    finally:
        for place, top in zip(places, tops, strict=False):
            # Not just one up: the thread still counts there for a moment after its end, and
            # nobody could remove that group meanwhile.
            _move_here("tasks", top)
            _remove(_below(place), top)
            os.close(top)


def _below(place: Path, *more: str) -> str:
    """Give the path of a group, or of a file in it, from the top of its hierarchy."""
    return str(Path(*place.parts[1:], *more))


def _move_here(tasks: str, folder: int) -> None:
    descriptor = os.open(tasks, os.O_WRONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.write(descriptor, b"0")
    finally:
        os.close(descriptor)


def _limit_files(limits: LinuxResources, pids_limit: int) -> dict[str, list[tuple[str, str]]]:
    """Give controllers, and what is written to which of their files, in order."""
    rows: tuple[tuple[str, str, int | str], ...] = (
        ("pids", "pids.max", pids_limit),
        ("memory", "memory.limit_in_bytes", limits.memory),
        ("memory", "memory.memsw.limit_in_bytes", limits.memory_swap),
        ("cpu", "cpu.shares", limits.cpu_shares),
        ("cpu", "cpu.cfs_period_us", limits.cpu_period),
        ("cpu", "cpu.cfs_quota_us", limits.cpu_quota),
        ("cpuset", "cpuset.cpus", limits.cpuset_cpus),
        ("cpuset", "cpuset.mems", limits.cpuset_mems),
    )
    wanted: dict[str, list[tuple[str, str]]] = {}
    for controller, name, value in rows:
        if value:
            wanted.setdefault(controller, []).append((name, str(value)))
    return wanted


def _inherit_cpuset(group: Path) -> None:
    """Give the values of the nearest group above that has some to all between it and `group`."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        empty = []
        place = group
        while not (place / name).read_text().strip():
            empty.append(place)
            place = place.parent
        value = (place / name).read_text().strip()
        for below in reversed(empty):
            (below / name).write_text(value)


def remove_group(path: str) -> None:
    """Remove the groups that a killed runtime left for a container, in all hierarchies."""
    for hierarchy in _hierarchies():
        _remove_tree(hierarchy / path.strip("/"))


def sweep() -> None:
    """Remove groups of containers that died with their whole process: empty, and not just made."""
    for hierarchy in _hierarchies():
        try:
            with os.scandir(hierarchy / _PARENT) as entries:
                groups = [entry for entry in entries if entry.is_dir()]
        except FileNotFoundError:
            continue
        for group in groups:
            try:
                if time.time() - group.stat().st_mtime > _OLD_S:
                    os.rmdir(group.path)
            except OSError:  # in use, or gone
                continue


def _hierarchies() -> list[Path]:
    if has_pure_cgroup2():
        return [_MOUNT]
    try:
        with os.scandir(_MOUNT) as entries:
            return [Path(entry.path) for entry in entries if not entry.is_symlink()]
    except FileNotFoundError:
        return []


def _remove_tree(group: Path) -> None:
    for top, _, _ in os.walk(group, topdown=False):
        _remove(top)


def _remove(group: str, folder: int | None = None) -> None:
    for _ in range(20):
        try:
            os.rmdir(group, dir_fd=folder)
        except OSError as err:
            if err.errno == errno.EBUSY:  # the kernel is not done with its last process
                time.sleep(0.005)
                continue
        break


def _own_group() -> Path | None:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "devices" in controllers.split(","):
            mounted = _MOUNT / controllers
            if not mounted.is_dir():
                mounted = _MOUNT / "devices"
            own = mounted / path.strip("/")
            return own if own.is_dir() else mounted if mounted.is_dir() else None
    return None


def _rule_text(rule: Mapping[str, object]) -> str:
    major, minor = rule.get("major", "*"), rule.get("minor", "*")
    kind = rule.get("type", "a")
    return "a" if kind == "a" else f"{kind} {major}:{minor} {rule['access']}"
