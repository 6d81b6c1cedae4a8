"""A private mount namespace for the process, so that its mounts end with it, however it ends.

An ordinary user gets a user namespace, too, in which it is root.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path
from typing import Any, Final

from torana.core import pool
from torana.core.errors import UnsupportedError
from torana.core.snapshots import mounts

_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWUSER: Final = 0x10000000
_entered = False


def enter() -> None:
    """Enter the namespaces, once a process; call it before any thread is started.

    Raises:
        UnsupportedError: the kernel or its settings do not allow it; the hint names the setting.
    """
    global _entered
    if _entered:
        return
    if os.geteuid() == 0:
        _unshare(_CLONE_NEWNS)
    else:
        _enter_as_user()
    # Mounts of the host still come in; ours do not go out.
    mounts.mount("", "/", "", mounts.MS_REC | mounts.MS_SLAVE)
    pool.renew()  # a thread stays in the namespaces that it began in
    _entered = True


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
            f"cannot make a private namespace: {os.strerror(number).lower()}", hint=_advice()
        )


def _advice() -> str:
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
            value = Path("/proc/sys", setting).read_text().strip()
        except OSError:
            continue
        if value == wrong:
            return f"allow user namespaces: `{advice}`, or run as root"
    return "run as root, or where user namespaces are allowed"


def _enter_as_user() -> None:
    uid, gid = os.geteuid(), os.getegid()
    ranges = _ranges("/etc/subuid", uid), _ranges("/etc/subgid", uid)
    if all(ranges) and _has_mapping_tools():
        _unshare_mapped(uid, gid, *ranges)
        return
    _unshare(_CLONE_NEWUSER | _CLONE_NEWNS)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def _has_mapping_tools() -> bool:
    import shutil

    return bool(shutil.which("newuidmap") and shutil.which("newgidmap"))


def _unshare_mapped(
    uid: int, gid: int, uids: list[tuple[int, int]], gids: list[tuple[int, int]]
) -> None:
    """Map a whole range: the set-uid helpers write the maps from outside."""
    parent = os.getpid()
    go_read, go_write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(go_write)
            os.read(go_read, 1)
            for tool, own, ranges in (("newuidmap", uid, uids), ("newgidmap", gid, gids)):
                arguments = ["0", str(own), "1"]
                inside = 1
                for start, count in ranges:
                    arguments += [str(inside), str(start), str(count)]
                    inside += count
                subprocess.run([tool, str(parent), *arguments], check=True)
            code = 0
        finally:
            os._exit(code)
    os.close(go_read)
    try:
        _unshare(_CLONE_NEWUSER | _CLONE_NEWNS)
    finally:
        os.close(go_write)
        status = os.waitpid(child, 0)[1]
    if status != 0:
        raise UnsupportedError(
            "newuidmap or newgidmap failed",
            hint="check this user's lines in /etc/subuid and /etc/subgid",
        )
    os.setgid(0)
    os.setuid(0)


def _ranges(file: str, uid: int) -> list[tuple[int, int]]:
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
    return [(int(r[1]), int(r[2])) for r in rows if len(r) == 3 and r[0] in names]
