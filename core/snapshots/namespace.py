"""A private mount namespace for the process, so that its mounts end with it, however it ends.

An ordinary user gets a user namespace, too, in which it is root.
"""

from __future__ import annotations

import ctypes
import logging
import os
import stat
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from torana.core import pool
from torana.core.errors import UnsupportedError
from torana.core.records import dataclass
from torana.core.snapshots import mounts

log = logging.getLogger(__name__)

PROC = Path("/proc")

_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWUSER: Final = 0x10000000
_CAP_SYS_ADMIN: Final = 21
_HANDLERS: Final = "/proc/sys/fs/binfmt_misc"  # mounted there on most machines, over nothing
_entered = False
_why_single = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this process is to the machine. `uid` is that of the host's namespace around ours."""

    uid: int
    id_count: int  # users that there are
    is_mapped: bool
    why_single: str = ""  # of a user with one id only

    def describe(self) -> str:
        """Say it in one line."""
        if not self.is_mapped:
            return "root"
        ids = "one id" if self.id_count == 1 else f"{self.id_count} ids"
        text = f"user {self.uid}, root in a user namespace of {ids}"
        return f"{text}: {self.why_single}" if self.why_single else text


def identity() -> Identity:
    """Give who we are, from the map of our namespace."""
    rows = _id_map("/proc/self/uid_map")
    count = sum(row[2] for row in rows)
    why = _why_single or "it was made that way" if count == 1 else ""
    return Identity(rows[0][1] if rows else os.geteuid(), count, is_mapped_user(), why)


def has_ids(uid: int, gid: int) -> bool:
    """Say whether there are such a user and such a group in our namespace."""
    wanted = (("/proc/self/uid_map", uid), ("/proc/self/gid_map", gid))
    return all(
        any(inside <= id < inside + count for inside, _, count in _id_map(file))
        for file, id in wanted
    )


def enter() -> None:
    """Enter the namespaces, once a process; call it before any thread is started.

    Raises:
        UnsupportedError: the kernel or its settings do not allow it; the hint names the setting.
    """
    global _entered
    if _entered:
        return
    if os.geteuid() == 0 and _may_mount():
        _unshare(_CLONE_NEWNS)
    else:
        _enter_as_user()
    # Mounts of the host still come in; ours do not go out.
    mounts.mount("", "/", "", mounts.MS_REC | mounts.MS_SLAVE)
    pool.renew()  # a thread stays in the namespaces that it began in
    _entered = True
    if _why_single:
        log.warning(
            "this user has one id only: files of other owners become yours, and what needs other "
            "users (apt-get, USER, chown) fails; %s",
            _why_single,
        )


def is_mapped_user() -> bool:
    """Say whether the process is root only within a user namespace."""
    try:
        first = Path("/proc/self/uid_map").read_text().split()
    except OSError:
        return False
    return first[:3] != ["0", "0", "4294967295"]


def _unshare(flags: int) -> None:
    libc: Any = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags) != 0:
        number = ctypes.get_errno()
        raise UnsupportedError(
            f"cannot make a private namespace: {os.strerror(number).lower()}", hint=advice()
        )


def advice() -> str:
    """Say what stands in the way of user namespaces, as a hint."""
    for setting, wrong, advice in (
        ("kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
        ("user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ):
        try:
            value = (PROC / "sys" / setting).read_text().strip()
        except OSError:
            continue
        if value == wrong:
            return f"allow user namespaces: `{advice}`, or run as root"
    if _status("Seccomp") == "2":
        options = "--security-opt seccomp=unconfined"
        if _hides_proc():
            options += " --security-opt systempaths=unconfined"
        return (
            "a seccomp profile forbids user namespaces, as containers have one: start the "
            f"container with `{options}`"
        )
    return "run as root, or where user namespaces are allowed"


def _status(name: str) -> str:
    for line in (PROC / "self/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value.strip()
    return ""


def _hides_proc() -> bool:
    """Say whether something lies over parts of /proc: then namespaces get none of their own."""
    try:
        lines = (PROC / "self/mountinfo").read_text().splitlines()
    except OSError:
        return False
    points = (line.split()[4] for line in lines)
    return any(point.startswith("/proc/") and point != _HANDLERS for point in points)


def _may_mount(rights: str = "CapEff") -> bool:
    return bool(int(_status(rights) or "0", 16) >> _CAP_SYS_ADMIN & 1)


def _id_map(file: str) -> list[tuple[int, int, int]]:
    """Give rows of first id here, first id outside, and count."""
    try:
        lines = Path(file).read_text().splitlines()
    except OSError:
        return []
    return [(int(a), int(b), int(c)) for a, b, c in map(str.split, lines)]


def _enter_as_user() -> None:
    """Make a user namespace, with all ids that this user may have."""
    global _why_single
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        # Root without the right to mount, as in a container, may map what it has.
        ids = [(row[0], row[2]) for row in _id_map("/proc/self/uid_map")]
        gids = [(row[0], row[2]) for row in _id_map("/proc/self/gid_map")]
        map_ids = partial(_map_all, ids, gids)
        problem = ""
    else:
        own = ranges("/etc/subuid", uid), ranges("/etc/subgid", uid)
        map_ids = partial(_map_ranges, uid, gid, *own)
        problem = why_no_ranges(*own)
    if not problem:
        problem = _unshare_mapped(map_ids)
        if not problem:
            os.setgid(0)
            os.setuid(0)
            return
    else:
        _unshare(_CLONE_NEWUSER | _CLONE_NEWNS)
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    except OSError as err:
        raise UnsupportedError(
            f"cannot map this user's ids: {problem}",
            hint="check this user's lines in /etc/subuid and /etc/subgid",
        ) from err
    _why_single = problem


def why_no_ranges(uids: list[tuple[int, int]], gids: list[tuple[int, int]]) -> str:
    """Say why a user with these ranges cannot have them; nothing if it can."""
    import shutil

    for file, ranges in (("/etc/subuid", uids), ("/etc/subgid", gids)):
        if not ranges:
            return (
                f"{file} has no line for it (`usermod --add-subuids FIRST-LAST "
                "--add-subgids FIRST-LAST USER`)"
            )
    for tool in ("newuidmap", "newgidmap"):
        if shutil.which(tool) is None:
            return f"`{tool}` is not on PATH (install `uidmap`)"
    return ""


def _unshare_mapped(map_ids: Callable[[int], None]) -> str:
    """Make the namespace while a child, which stays outside, maps its ids; gives why it did not."""
    parent = os.getpid()
    go_read, go_write = os.pipe()
    said_read, said_write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(go_write)
            if os.read(go_read, 1):
                map_ids(parent)
        except (OSError, subprocess.SubprocessError) as err:
            os.write(said_write, str(err).encode() or b"failed")
        finally:
            os._exit(0)
    os.close(go_read)
    os.close(said_write)
    try:
        _unshare(_CLONE_NEWUSER | _CLONE_NEWNS)
        os.write(go_write, b"1")
    finally:
        os.close(go_write)
        with open(said_read, "rb") as said:
            problem = said.read().decode(errors="replace")
        os.waitpid(child, 0)
    return problem


def _map_all(uids: list[tuple[int, int]], gids: list[tuple[int, int]], process: int) -> None:
    """Map all ids to themselves, root by a row of its own.

    Programs take a first row with every id for the namespace of the host.
    """
    for name, ranges in (("uid_map", uids), ("gid_map", gids)):
        rows = ["0 0 1\n"]
        for start, count in ranges:
            skipped = 1 if start == 0 else 0
            rows.append(f"{start + skipped} {start + skipped} {count - skipped}\n")
        Path(f"/proc/{process}/{name}").write_text("".join(rows))


def _map_ranges(
    uid: int,
    gid: int,
    uids: list[tuple[int, int]],
    gids: list[tuple[int, int]],
    process: int,
) -> None:
    """Map the user to root and its ranges behind it, by the set-uid helpers."""
    for tool, own, ranges in (("newuidmap", uid, uids), ("newgidmap", gid, gids)):
        arguments = ["0", str(own), "1"]
        inside = 1
        for start, count in ranges:
            arguments += [str(inside), str(start), str(count)]
            inside += count
        done = subprocess.run([tool, str(process), *arguments], stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            said = f"{tool} failed: {done.stderr.strip().removeprefix(tool + ': ')}"
            why = why_helper_failed(tool)
            raise OSError(f"{said}; {why}" if why else said)


def why_helper_failed(tool: str) -> str:
    """Say what a container takes from a set-uid helper; nothing if that is not it."""
    import shutil

    path = shutil.which(tool)
    if path is None or not os.stat(path).st_mode & stat.S_ISUID:
        return ""
    if _status("NoNewPrivs") == "1":
        return "set-uid programs give nothing here: start the container without `no-new-privileges`"
    if not _may_mount("CapBnd"):
        # The kernel asks root for CAP_SYS_ADMIN, and the namespace's owner for CAP_SETUID alone.
        capability = {"newuidmap": "cap_setuid", "newgidmap": "cap_setgid"}[tool]
        return (
            "set-uid programs may not map ids here, as in containers: give it file capabilities "
            f"instead (`chmod u-s {path} && setcap {capability}=ep {path}`)"
        )
    return ""


def ranges(file: str, uid: int) -> list[tuple[int, int]]:
    """Read a user's rows of first id and count (subuid(5)); wrong lines are passed over."""
    import pwd

    try:
        names = {str(uid), pwd.getpwuid(uid).pw_name}
    except KeyError:
        names = {str(uid)}
    try:
        lines = Path(file).read_text().splitlines()
    except OSError:
        return []
    rows = [line.split(":") for line in lines]
    return [
        (int(row[1]), int(row[2]))
        for row in rows
        if len(row) == 3 and row[0] in names and row[1].isdigit() and row[2].isdigit()
    ]
