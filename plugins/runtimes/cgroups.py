"""What kind of control groups the machine has, and a devices cgroup (v1) for steps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from torana.plugins.runtimes.spec import DEVICE_RULES

_MOUNT: Final = Path("/sys/fs/cgroup")
_NAME: Final = "torana-steps"


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
