"""What the kernel will say of a step's program: bubblewrap gives what it refuses to a shell.

That is a habit of execvp(3), which OCI runtimes do not have: a text without `#!` is no program.
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

from torana.core.ops.runtime import ContainerSpec
from torana.core.snapshots.rootfs import join, resolve_links

_HEAD_BYTES: Final = 256  # what the kernel looks at
_LIMIT_S: Final = 10
# Machines in ELF headers of which one kernel may run all: x86, ARM, Power, SPARC.
_FAMILIES: Final = ({3, 62}, {40, 183}, {20, 21}, {2, 18, 43})


def find_program(spec: ContainerSpec) -> bytes | None:
    """Give the host's path of the program that the container will start.

    None if there is no such executable file, or it is in a mount that has no path.
    """
    name = os.fsencode(spec.args[0])
    if b"/" in name:
        return _executable(spec, os.path.join(os.fsencode(spec.cwd), name))
    path = next((text[5:] for text in reversed(spec.env) if text.startswith("PATH=")), "")
    found = (_executable(spec, os.path.join(os.fsencode(d), name)) for d in path.split(":") if d)
    return next(filter(None, found), None)


def is_refused(program: bytes) -> bool:
    """Say whether the kernel surely refuses to execute a file, for its format.

    Other binaries than ELF are left to it: it may have handlers for them, seen or unseen from here.
    """
    try:
        with open(program, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    if head.startswith(b"\x7fELF"):
        return not _is_ours(head) and not _is_handled(head[4:7], head[18:20])
    return not head.startswith(b"#!") and b"\0" not in head


def _executable(spec: ContainerSpec, path: bytes) -> bytes | None:
    mounts = {_parts(os.fsencode(mount.destination)): mount for mount in spec.mounts}

    def on_host(parts: list[bytes]) -> bytes | None:
        for count in range(len(parts), 0, -1):
            mount = mounts.get(tuple(parts[:count]))
            if mount is not None:
                source = os.fsencode(os.path.realpath(mount.source))
                return join(source, parts[count:]) if mount.kind == "bind" else None
        return join(os.fsencode(spec.rootfs), parts)

    def read(parts: list[bytes]) -> bytes | None:
        place = on_host(parts)
        try:
            return None if place is None else os.readlink(place)
        except OSError:
            return None

    try:
        found = on_host(resolve_links(path, read))
        mode = 0 if found is None else os.lstat(found).st_mode
    except OSError:
        return None
    return found if stat.S_ISREG(mode) and mode & 0o111 else None


def _parts(path: bytes) -> tuple[bytes, ...]:
    return tuple(part for part in path.split(b"/") if part)


def _is_ours(head: bytes) -> bool:
    """Say whether it is ELF for this machine, or for one that may be run beside its own."""
    with open("/proc/self/exe", "rb") as file:
        own = _machine(file.read(20))
    family = next((family for family in _FAMILIES if own in family), {own})
    return _machine(head) in family


def _machine(head: bytes) -> int:
    return int.from_bytes(head[18:20], "big" if head[5:6] == b"\2" else "little")


@cache
def _is_handled(form: bytes, machine: bytes) -> bool:
    """Say whether the kernel has a handler for ELF of a machine, by executing a header of ours.

    Handlers are not shown in containers, but work there.
    """
    kind = b"\0\2" if form[1:2] == b"\2" else b"\2\0"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "header")
        file.write_bytes((b"\x7fELF" + form).ljust(16, b"\0") + kind + machine + bytes(44))
        file.chmod(0o700)
        quiet = subprocess.DEVNULL
        try:
            subprocess.run([file], stdin=quiet, stdout=quiet, stderr=quiet, timeout=_LIMIT_S)
        except OSError as err:
            return err.errno != errno.ENOEXEC
        except subprocess.TimeoutExpired:
            return True
    return True
