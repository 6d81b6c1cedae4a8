"""`confine`: takes from this process what a frontend has no need of.

Afterwards it runs as the first process of a pid namespace: it sees no other process, no network,
and no file but those that Python and the frontend are made of, may write nowhere but to its
temporary folder, has no capabilities and cannot get any, and is limited in memory. What stays are
its standard descriptors: the gateway. `Stopper` limits its time.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Sequence
from typing import Any, Final

from torana.core.errors import UnsupportedError
from torana.gateway.runners import privateroot
from torana.gateway.runners.limits import Limits

_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWUTS: Final = 0x04000000
_CLONE_NEWIPC: Final = 0x08000000
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWPID: Final = 0x20000000
_CLONE_NEWNET: Final = 0x40000000
_PR_SET_PDEATHSIG: Final = 1
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_CAPABILITY_VERSION: Final = 0x20080522
_CAPABILITIES: Final = 64


def confine(temporary: str, limits: Limits, visible: Sequence[str]) -> None:
    """Confine this process; `temporary` is an empty folder, `visible` are the paths that it sees.

    Returns in a child process, whose `TMPDIR` is another one. The caller's process stays and passes
    on how the child ended. Must come before any thread is started.

    Raises:
        UnsupportedError: the kernel does not allow it.
    """
    try:
        _unshare()
        _fork()
        privateroot.enter(temporary, visible)
    except OSError as err:
        raise UnsupportedError(
            f"cannot confine a frontend: {(err.strerror or str(err)).lower()}",
            hint="this needs Linux 5.12 and the right to make namespaces; "
            "`--trust-plugin NAME` runs a frontend without a sandbox",
        ) from err
    os.environ["TMPDIR"] = privateroot.TEMPORARY
    _limit(limits)
    _drop_capabilities()


def _unshare() -> None:
    """Enter new namespaces; without the right to, in a user namespace with that right."""
    kinds = _CLONE_NEWNS | _CLONE_NEWUTS | _CLONE_NEWIPC | _CLONE_NEWPID | _CLONE_NEWNET
    user, group = os.geteuid(), os.getegid()
    try:
        _call("unshare", kinds)
    except PermissionError:
        _call("unshare", kinds | _CLONE_NEWUSER)
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)


def _fork() -> None:
    """Go on in a child; the parent waits for it and ends as it does."""
    child = os.fork()
    if child:
        signal.signal(signal.SIGXCPU, signal.SIG_IGN)  # the whole group is told of limits
        for descriptor in (0, 1, 2):
            os.close(descriptor)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        os._exit(code if code >= 0 else 128 - code)
    _call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != 0:  # the parent is outside of the namespace, unless it is gone
        sys.exit(1)


def _limit(limits: Limits) -> None:
    wanted = {
        resource.RLIMIT_AS: (limits.memory_bytes, limits.memory_bytes),
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_NOFILE: (1024, 1024),
        resource.RLIMIT_NPROC: (4096, 4096),
    }
    for kind, values in wanted.items():
        _, hard = resource.getrlimit(kind)
        if hard != resource.RLIM_INFINITY:
            values = (min(values[0], hard), min(values[1], hard))
        resource.setrlimit(kind, values)
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)  # until there is a frontend to be stopped


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
