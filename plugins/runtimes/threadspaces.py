"""Namespaces of the calling thread: those of other threads stay as they are.

Each function raises OSError where it is not allowed.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path
from typing import Any, Final

_CLONE_FS: Final = 0x00000200
_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWCGROUP: Final = 0x02000000
_CLONE_NEWPID: Final = 0x20000000
_CLONE_NEWNET: Final = 0x40000000
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1


def unshare_network() -> None:
    """Take the thread to a new network namespace, whose loopback is up."""
    _call("unshare", _CLONE_NEWNET, why="no new network namespace")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", _IFF_UP)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)


def join_network(file: Path) -> None:
    """Take the thread to the network namespace that is bound to `file`."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("setns", descriptor, _CLONE_NEWNET, why="no entry to the network namespace")
    finally:
        os.close(descriptor)


def unshare(*, cgroup: bool) -> None:
    """Take the thread to a new mount namespace; its children get a new pid namespace."""
    more = _CLONE_NEWCGROUP if cgroup else 0
    _call("unshare", _CLONE_NEWNS | _CLONE_NEWPID | more, why="no new pid namespace")


def join(pid: int) -> None:
    """Take the thread to the mount and cgroup namespaces of a process, its children to the pid one.

    A user namespace is not let into the host's cgroup namespace again, which both may be in.
    """
    kinds = {"mnt": _CLONE_NEWNS, "cgroup": _CLONE_NEWCGROUP, "pid": _CLONE_NEWPID}
    opened = {
        name: os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        for name in kinds
        if os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/thread-self/ns/{name}")
    }
    try:
        # Only a thread with a working directory of its own may change the mount namespace.
        _call("unshare", _CLONE_FS, why="no working directory of its own")
        for name, descriptor in opened.items():
            _call("setns", descriptor, kinds[name], why=f"no entry to the {name} namespace")
    finally:
        for descriptor in opened.values():
            os.close(descriptor)


def _call(name: str, *arguments: int, why: str) -> None:
    libc: Any = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{why}: {os.strerror(number)}")
