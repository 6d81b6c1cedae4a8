"""A program of its own: start a process in a container of bubblewrap that already runs.

It is run by `python -I -S entry.py DOCUMENT` in the pid namespace of which bubblewrap is the init,
enters the namespaces of bubblewrap's child, gives up all rights that the document does not grant,
and becomes the process. It uses the standard library alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import select
import sys
import termios
import tty
from typing import Any

_NAMESPACES = ("cgroup", "ipc", "uts", "net", "pid", "mnt")  # the last hides all others' paths
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION = 0x20080522
_INSTRUCTION_BYTES = 8
_NUMBERS = {  # of the capabilities that a document may name
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_FOWNER": 3,
    "CAP_FSETID": 4,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_SETPCAP": 8,
    "CAP_NET_BIND_SERVICE": 10,
    "CAP_NET_RAW": 13,
    "CAP_SYS_CHROOT": 18,
    "CAP_MKNOD": 27,
    "CAP_AUDIT_WRITE": 29,
    "CAP_SETFCAP": 31,
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


def main() -> None:
    """Enter, fork into the pid namespace, and stand for the process until it ends."""
    os.closerange(3, 1 << 20)  # what we came into our cgroup by
    with open(sys.argv[1], encoding="utf-8") as file:
        document = json.load(file)
    log = os.open(document["log"], os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    # Replaced by its final name when the process is there.
    pid_file = os.open(os.path.dirname(document["pid_file"]), os.O_RDONLY | os.O_DIRECTORY)
    try:
        _enter(_first_process())
    except OSError as err:
        _fail(log, f"cannot enter the container: {err.strerror}")
    began, tell = os.pipe2(os.O_CLOEXEC)
    # A terminal of the container's own /dev/pts, joined to the one that we were given.
    outer, inner = os.openpty() if document["is_terminal"] else (-1, -1)
    child = os.fork()
    if child == 0:
        try:
            if inner != -1:
                fcntl.ioctl(inner, termios.TIOCSWINSZ, fcntl.ioctl(0, termios.TIOCGWINSZ, b"." * 8))
                for standard in (0, 1, 2):
                    os.dup2(inner, standard)
            _become(document)
        except OSError as err:
            _fail(tell, f'exec: "{document["args"][0]}": {(err.strerror or "").lower()}')
    os.close(tell)
    said = os.read(began, 4096)
    if said:
        os.write(log, said)
        os.waitpid(child, 0)
        os._exit(1)
    name = os.path.basename(document["pid_file"])
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=pid_file))
    if outer != -1:
        os.close(inner)
        _relay(outer)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(code if code >= 0 else 128 - code)


def _relay(terminal: int) -> None:
    """Carry what is typed and shown, until the last process has closed the terminal."""
    tty.setraw(0)
    sources = [0, terminal]
    while True:
        for source in select.select(sources, [], [])[0]:
            try:
                data = os.read(source, 65536)
            except OSError:
                data = b""
            if not data and source == terminal:
                return
            if not data:
                sources.remove(0)
            _write(terminal if source == 0 else 1, data)


def _write(descriptor: int, data: bytes) -> None:
    with contextlib.suppress(OSError):  # nobody looks any more
        while data:
            data = data[os.write(descriptor, data) :]


def _fail(descriptor: int, message: str) -> None:
    os.write(descriptor, json.dumps({"level": "error", "msg": message}).encode())
    os._exit(1)


def _first_process() -> str:
    """Give the process id of bubblewrap's child."""
    with open("/proc/1/task/1/children", encoding="ascii") as file:
        children = file.read().split()
    if not children:
        raise OSError(errno.ESRCH, "its first process has ended")
    return children[0]


def _enter(pid: str) -> None:
    libc: Any = ctypes.CDLL(None, use_errno=True)
    opened = []
    for name in _NAMESPACES:
        path = f"/proc/{pid}/ns/{name}"
        if os.path.exists(path) and os.readlink(path) != os.readlink(f"/proc/self/ns/{name}"):
            opened.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    for descriptor in opened:
        _check(libc.setns(descriptor, 0))


def _become(document: dict[str, Any]) -> None:
    libc: Any = ctypes.CDLL(None, use_errno=True)
    os.setsid()
    if document["is_terminal"]:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    environment = dict(entry.partition("=")[::2] for entry in document["env"])
    environment.setdefault("HOME", "/")
    _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    names = document["capabilities"]
    if names is not None:
        kept = {_NUMBERS[name] for name in names}
        for number in range(64):
            if number not in kept and libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
                break  # one past the kernel's last
    try:
        os.setgroups(document["groups"])
    except PermissionError:  # a user namespace without groups
        if document["gid"] or set(document["groups"]) - {0}:
            raise
    os.setresgid(*[document["gid"]] * 3)
    os.setresuid(*[document["uid"]] * 3)
    os.chdir(document["cwd"])
    if names is not None:
        if document["uid"] == 0:
            _keep_capabilities(libc, names)
        _filter(libc, bytes.fromhex(document["filter"]))
    os.execvpe(document["args"][0], document["args"], environment)  # that is its task


def _keep_capabilities(libc: Any, names: list[str]) -> None:
    mask = sum(1 << _NUMBERS[name] for name in names)
    header = _Header(_CAPABILITY_VERSION, 0)
    # Effective, permitted, inheritable; the second three are capabilities from 32 on.
    sets = (ctypes.c_uint32 * 6)(mask, mask, 0, 0, 0, 0)
    _check(libc.capset(ctypes.byref(header), sets))


def _filter(libc: Any, code: bytes) -> None:
    program = _Program(len(code) // _INSTRUCTION_BYTES, code)
    _check(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    main()
