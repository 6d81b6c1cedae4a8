"""The default seccomp profile: system calls that a step may make.

The table (`seccomp.json`) is an allow-list equal in effect to moby's default; some calls depend on
capabilities, some on the processor. `profile` gives it as OCI runtimes want it; `compile_profile`
gives the finished filter, because compiling it is what a runtime spends most of its time on.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any, Final

_TABLE: Final = Path(__file__).with_name("seccomp.json")
_LIBRARY: Final = "libseccomp.so.2"
_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_CMP: Final = {"SCMP_CMP_NE": 1, "SCMP_CMP_EQ": 4, "SCMP_CMP_MASKED_EQ": 7}


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("value_two", ctypes.c_uint64),
    )


@cache
def profile(capabilities: frozenset[str], machine: str | None = None) -> dict[str, Any] | None:
    """Give `linux.seccomp` of an OCI spec; None for a processor that the table does not know."""
    table = json.loads(_TABLE.read_bytes())
    machine = machine or platform.machine()
    architectures = table["architectures"].get(machine)
    if architectures is None:
        return None
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": table["defaultErrno"],
        "architectures": architectures,
        "syscalls": [
            _oci_rule(rule) for rule in table["rules"] if _applies(rule, capabilities, machine)
        ],
    }


def _applies(rule: dict[str, Any], capabilities: Collection[str], machine: str) -> bool:
    return (
        machine in rule.get("machines", (machine,))
        and rule.get("capability", "") in ("", *capabilities)
        and rule.get("unless", "") not in capabilities
    )


def _oci_rule(rule: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {"names": rule["names"], "action": "SCMP_ACT_ALLOW"}
    if "errno" in rule:
        out |= {"action": "SCMP_ACT_ERRNO", "errnoRet": rule["errno"]}
    if "args" in rule:
        out["args"] = rule["args"]
    return out


@cache
def compile_profile(capabilities: frozenset[str]) -> bytes | None:
    """Give the filter as BPF instructions; None where libseccomp cannot be used."""
    wanted = profile(capabilities)
    if wanted is None:
        return None
    try:
        library: Any = ctypes.CDLL(_LIBRARY, use_errno=True)
    except OSError:
        return None
    library.seccomp_init.restype = ctypes.c_void_p
    handle = ctypes.c_void_p(library.seccomp_init(_ERRNO | wanted["defaultErrnoRet"]))
    if not handle:
        return None
    try:
        return _compile(library, handle, wanted)
    except OSError:
        return None
    finally:
        library.seccomp_release(handle)


def _compile(library: Any, handle: ctypes.c_void_p, wanted: dict[str, Any]) -> bytes:
    for name in wanted["architectures"]:
        token = library.seccomp_arch_resolve_name(_library_name(name).encode())
        _check(library.seccomp_arch_add(handle, ctypes.c_uint32(token)), allow=errno.EEXIST)
    for rule in wanted["syscalls"]:
        action = _ALLOW if "errnoRet" not in rule else _ERRNO | rule["errnoRet"]
        arguments = [
            _Comparison(a["index"], _CMP[a["op"]], a["value"], a.get("valueTwo", 0))
            for a in rule.get("args", ())
        ]
        comparisons = (_Comparison * len(arguments))(*arguments)
        for name in rule["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number == -1:  # newer than the library
                continue
            _check(
                library.seccomp_rule_add_array(
                    handle, ctypes.c_uint32(action), number, len(arguments), comparisons
                )
            )
    descriptor = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    try:
        _check(library.seccomp_export_bpf(handle, descriptor))
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    finally:
        os.close(descriptor)


def _library_name(architecture: str) -> str:
    return architecture.removeprefix("SCMP_ARCH_").lower()


def _check(result: int, *, allow: int = 0) -> None:
    if result < 0 and result != -allow:
        raise OSError(-result, os.strerror(-result))
