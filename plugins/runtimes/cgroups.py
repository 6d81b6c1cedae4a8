"""What kind of control groups the machine has, a devices cgroup (v1) for steps, and clearing up."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Final

from torana.plugins.runtimes.spec import DEVICE_RULES

_MOUNT: Final = Path("/sys/fs/cgroup")
_NAME: Final = "torana-steps"
_PARENT: Final = "buildkit"  # of the containers' groups, as BuildKit has it
_OLD_S: Final = 60


def has_pure_cgroup2() -> bool:
    """Say whether a cgroup2 lies at /sys/fs/cgroup, and not version 1 or a mix of both."""
    return (_MOUNT / "cgroup.controllers").exists()


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
        file = draft / ("devices.allow" if rule["allow"] else "devices.deny")
        file.write_text(_rule_text(rule))
    try:
        draft.rename(group)
    except FileExistsError:
        draft.rmdir()
    return group


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
        for _ in range(20):
            try:
                os.rmdir(top)
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


def _rule_text(rule: dict[str, object]) -> str:
    major, minor = rule.get("major", "*"), rule.get("minor", "*")
    kind = rule.get("type", "a")
    return "a" if kind == "a" else f"{kind} {major}:{minor} {rule['access']}"
