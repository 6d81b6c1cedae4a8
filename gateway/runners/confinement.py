"""`confine`: takes from this process what a frontend has no need of.

Afterwards it runs as the first process of a pid namespace: it sees no other process and no network,
may write nowhere but to its temporary folder, has no capabilities and cannot get any, and is
limited in memory and processor time. What stays are its standard descriptors: the gateway.

For frontends that were not installed by hand (docs/design/gateway.md). Their code runs with the
files of this machine in sight; what they read can leave only as part of a build's result.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from dataclasses import dataclass
from typing import Any, Final

from torana.core.errors import UnsupportedError
from torana.core.snapshots import mounts

_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWUTS: Final = 0x04000000
_CLONE_NEWIPC: Final = 0x08000000
_CLONE_NEWPID: Final = 0x20000000
_CLONE_NEWNET: Final = 0x40000000
_SYS_MOUNT_SETATTR: Final = 442
_AT_FDCWD: Final = -100
_AT_RECURSIVE: Final = 0x8000
_RDONLY_NOSUID: Final = 1 | 2
_PR_SET_PDEATHSIG: Final = 1
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_CAPABILITY_VERSION: Final = 0x20080522
_CAPABILITIES: Final = 64
_TEMPORARY_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a confined frontend may use."""

    memory_bytes: int = 2 << 30  # of address space
    cpu_s: int = 300


def confine(temporary: str, limits: Limits) -> None:
    """Confine this process; `temporary` is an empty folder, which it gets to write to.

    Returns in a child process. The caller's process stays and passes on how the child ended. Must
    come before any thread is started.

    Raises:
        UnsupportedError: the kernel does not allow it.
    """
    kinds = _CLONE_NEWNS | _CLONE_NEWUTS | _CLONE_NEWIPC | _CLONE_NEWPID | _CLONE_NEWNET
    try:
        _call("unshare", kinds)
        _fork()
        mounts.mount("", "/", "", mounts.MS_REC | mounts.MS_PRIVATE)
        mounts.mount("proc", "/proc", "proc", 2 | 4 | 8)
        _make_readonly()
        options = f"mode=0700,size={_TEMPORARY_BYTES}"
        mounts.mount("tmpfs", temporary, "tmpfs", mounts.MS_NOSUID | mounts.MS_NODEV, options)
    except OSError as err:
        raise UnsupportedError(
            f"cannot confine a frontend: {(err.strerror or str(err)).lower()}",
            hint="this needs Linux 5.12 and the right to make namespaces",
        ) from err
    os.environ["TMPDIR"] = temporary
    _limit(limits)
    _drop_capabilities()


def _fork() -> None:
    """Go on in a child; the parent waits for it and ends as it does."""
    child = os.fork()
    if child:
        for descriptor in (0, 1, 2):
            os.close(descriptor)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        os._exit(code if code >= 0 else 128 - code)
    _call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != 0:  # the parent is outside of the namespace, unless it is gone
        sys.exit(1)


class _MountAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


def _make_readonly() -> None:
    attributes = _MountAttributes(set=_RDONLY_NOSUID)
    _call(
        "syscall",
        _SYS_MOUNT_SETATTR,
        _AT_FDCWD,
        b"/",
        _AT_RECURSIVE,
        ctypes.byref(attributes),
        ctypes.sizeof(attributes),
    )


def _limit(limits: Limits) -> None:
    wanted = {
        resource.RLIMIT_AS: limits.memory_bytes,
        resource.RLIMIT_CPU: limits.cpu_s,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 1024,
        resource.RLIMIT_NPROC: 4096,
    }
    for kind, value in wanted.items():
        _, hard = resource.getrlimit(kind)
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(kind, (value, value))


def _drop_capabilities() -> None:
    for capability in range(_CAPABILITIES):
        try:
            _call("prctl", _PR_CAPBSET_DROP, capability, 0, 0, 0)
        except OSError:
            break  # the kernel does not know more of them
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    none = (ctypes.c_uint32 * 6)()
    _call("capset", ctypes.byref(header), ctypes.byref(none))


def _call(name: str, *arguments: Any) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
