"""Groups of version 2 with limits, for programs that make none themselves.

Version 2 moves no single threads, so a program enters its group by itself, before it becomes what
it is to be: `entry` gives the words for that. Groups lie below a base: the top for root, the
group that was delegated to an ordinary user. A group that has processes hands no controllers down
(but for the machine's own top), so the engine leaves the base for a group beside the steps' if it
is alone there.

Spec: Documentation/admin-guide/cgroup-v2.rst of Linux; numbers are converted as runc does it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final

from torana.core.llb.ops import LinuxResources
from torana.core.records import dataclass

MOUNT: Final = Path("/sys/fs/cgroup")
_CONTROLLERS: Final = ("cpu", "cpuset", "memory", "pids")
_ENGINE: Final = "torana-engine"
_PERIOD_US: Final = 100_000
_ENTER: Final = 'echo 0 > "$0" && exec "$@"'


def base_group(mount: Path = MOUNT, own: Path = Path("/proc/self/cgroup")) -> Path | None:
    """Give the group below which this process may make others; None if there is none."""
    if os.access(mount / "cgroup.procs", os.W_OK) and os.access(mount, os.W_OK):
        return mount
    for line in own.read_text().splitlines():
        if line.startswith("0::/") and ".." not in line:
            found = mount / line[4:]
            files = (found, found / "cgroup.procs", found / "cgroup.subtree_control")
            return found if all(os.access(path, os.W_OK) for path in files) else None
    return None


@dataclass(frozen=True, slots=True)
class Entry:
    """What comes before the words of a program, and what stays open for it."""

    words: tuple[str, ...] = ()
    files: tuple[int, ...] = ()


@cache
def usable_base() -> Path | None:
    """Give the base, from which we have gone if need be; None where nothing can be limited."""
    base = base_group()
    if base is None or not available(base):
        return None
    is_top = not (base / "cgroup.type").exists()
    return base if is_top or _leave(base) else None


def available(group: Path) -> list[str]:
    """Give the controllers that groups below this one could have, of those we know."""
    try:
        known = (group / "cgroup.controllers").read_text().split()
    except OSError:
        return []
    return [name for name in _CONTROLLERS if name in known]


def hand_down(group: Path, controllers: Iterable[str]) -> None:
    """Let groups below this one have controllers.

    Raises:
        OSError: one is missing, or the group has processes.
    """
    control = group / "cgroup.subtree_control"
    enabled = control.read_text().split()
    for name in controllers:
        if name not in enabled:
            control.write_text(f"+{name}")


def _leave(base: Path) -> bool:
    """See that the base has no processes: we go to a group of our own below it.

    False when others are there, whom we do not move. Nothing may be handed down before: with
    processes the base would take some controllers, and become threaded by that.
    """
    found = (base / "cgroup.procs").read_text().split()
    if set(found) - {str(os.getpid())}:
        return False
    if found:
        try:
            (base / _ENGINE).mkdir(exist_ok=True)
            (base / _ENGINE / "cgroup.procs").write_text("0")
        except OSError:
            return False
    return True


def make_group(base: Path, path: str, limits: LinuxResources, pids_limit: int) -> Path | None:
    """Make the group `path` below `base` with limits; None if there are none to be kept.

    Raises:
        OSError: a controller is missing, or refuses a limit.
    """
    files = limit_files(limits, pids_limit)
    if not files:
        return None
    group = base / path.strip("/")
    if group.is_dir():
        return group
    group.parent.mkdir(parents=True, exist_ok=True)
    controllers = {name.partition(".")[0] for name, _ in files}
    for above in reversed([group.parent, *group.parent.parents]):
        if above == base or base in above.parents:
            hand_down(above, sorted(controllers))
    group.mkdir()
    for name, value in files:
        (group / name).write_text(value)
    return group


def limit_files(limits: LinuxResources, pids_limit: int) -> list[tuple[str, str]]:
    """Give what is written to which files of a group, in order. Pure."""
    files: list[tuple[str, str]] = []
    if pids_limit:
        files.append(("pids.max", str(pids_limit)))
    if limits.memory:
        files.append(("memory.max", str(limits.memory)))
    if limits.memory_swap > 0:  # version 1 counts both together
        files.append(("memory.swap.max", str(max(0, limits.memory_swap - limits.memory))))
    elif limits.memory_swap < 0:
        files.append(("memory.swap.max", "max"))
    if limits.cpu_shares:
        shares = min(max(limits.cpu_shares, 2), 262_144)
        files.append(("cpu.weight", str(1 + (shares - 2) * 9999 // 262_142)))
    if limits.cpu_quota or limits.cpu_period:
        quota = str(limits.cpu_quota) if limits.cpu_quota > 0 else "max"
        files.append(("cpu.max", f"{quota} {limits.cpu_period or _PERIOD_US}"))
    if limits.cpuset_cpus:
        files.append(("cpuset.cpus", limits.cpuset_cpus))
    if limits.cpuset_mems:
        files.append(("cpuset.mems", limits.cpuset_mems))
    return files


def entry(descriptor: int, *, is_inherited: bool) -> Entry:
    """Give what lets a program enter a group before it runs.

    `descriptor` is the open `cgroup.procs` of the group, to be reached whatever lies over the
    hierarchies by then. It is named as a file of this process, so that nothing stays open in the
    program; or as the program's own, which then has to close it.
    """
    owner = "self" if is_inherited else os.getpid()
    words = "/bin/sh", "-c", _ENTER, f"/proc/{owner}/fd/{descriptor}"
    return Entry(words, (descriptor,) if is_inherited else ())
