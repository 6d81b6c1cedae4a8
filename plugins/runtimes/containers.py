"""`OCIContainer`: a container that runs while others talk to it.

The program stays in the foreground and hands signals on to its process. It is the init of a pid
namespace, so a further process is started from within that namespace, where the ids are that the
program wrote down.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import json
import os
import signal
import struct
import termios
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from torana.core.errors import ConflictError
from torana.core.ops.runtime import (
    ContainerSpec,
    ExitStatus,
    ProcessSpec,
    RuntimeFailedError,
    Streams,
)
from torana.plugins.runtimes.launcher import Program
from torana.plugins.runtimes.outcome import LOG, kernel_kills
from torana.plugins.runtimes.spec import process_spec

if TYPE_CHECKING:
    from torana.plugins.runtimes.oci import OCIRuntime

_POLL_S: Final = 0.004
_RESIZE_TRIES: Final = 100
_NO_FORWARDING: Final = frozenset({signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGWINCH})

Status = Callable[[int], Awaitable[ExitStatus]]


class OCIProcess:
    """A process and the program that stands for it on this side."""

    def __init__(self, program: Program, pid_file: Path, status: Status) -> None:
        self._program = program
        self._pid_file = pid_file
        self._status = status

    async def started(self) -> None:
        """Wait until the process runs, or its program has ended.

        Raises:
            RuntimeFailedError: it did not start.
        """
        while not self._pid_file.exists():
            if self._program.has_ended:
                status = await self.wait()
                raise RuntimeFailedError(f"process did not start: exit code: {status.code}")
            await asyncio.sleep(_POLL_S)

    async def wait(self) -> ExitStatus:
        return await self._status(await self._program.wait())

    def signal(self, number: int) -> None:
        """Send a signal: by the program, or past it where it would not hand it on."""
        if number in _NO_FORWARDING:
            self._program.signal_children(number)
        else:
            self._program.signal(number)

    async def resize(self, rows: int, columns: int) -> None:
        """Give its terminal a size; not by the program, for not every one hands it on."""
        for _ in range(_RESIZE_TRIES):
            if self._program.has_ended or _resize(self._program.children(), rows, columns):
                return
            await asyncio.sleep(_POLL_S)  # it has not opened it yet

    async def kill(self) -> None:
        """Kill the program, and with the first one everything."""
        await self._program.kill()


class OCIContainer:
    """A container of a runtime with the command line of runc."""

    def __init__(self, runtime: OCIRuntime, spec: ContainerSpec) -> None:
        self._runtime = runtime
        self._spec = spec
        self._first: OCIProcess | None = None
        self._program: Program | None = None
        self._numbers = itertools.count(1)
        self._others: list[OCIProcess] = []

    async def start(self, streams: Streams) -> None:
        """Start the first process; only to be called once."""
        spec, kills = self._spec, kernel_kills()
        pid_file = spec.directory / "pid"
        command = self._runtime.command(spec, "run", f"--pid-file={pid_file}")
        self._program = Program(command, streams, self._runtime.surroundings(spec))
        self._first = OCIProcess(
            self._program,
            pid_file,
            lambda code: self._runtime.status(spec, code, spec.directory / LOG, kills),
        )
        try:
            await self._first.started()
        except BaseException:
            await self.kill()
            raise

    async def wait(self) -> ExitStatus:
        return await self._process.wait()

    def signal(self, number: int) -> None:
        self._process.signal(number)

    async def resize(self, rows: int, columns: int) -> None:
        await self._process.resize(rows, columns)

    async def exec(self, process: ProcessSpec, streams: Streams) -> OCIProcess:
        assert self._program is not None, "started"
        if self._program.has_ended:
            raise ConflictError("the container's first process has already exited")
        spec, kills, number = self._spec, kernel_kills(), next(self._numbers)
        log = f"log-{number}.json"
        pid_file = spec.directory / f"pid-{number}"
        document = spec.directory / f"process-{number}.json"
        text = json.dumps(process_spec(process, self._runtime.traits()))
        document.write_text(text, encoding="utf-8")
        command = [
            *self._runtime.program_line(spec, log),
            "exec",
            f"--pid-file={pid_file}",
            f"--process={document}",
            spec.id,
        ]
        surroundings = self._runtime.surroundings(spec)
        made = OCIProcess(
            Program(command, streams, surroundings, beside=self._program),
            pid_file,
            lambda code: self._runtime.status(
                spec, code, spec.directory / log, kills, command="exec"
            ),
        )
        self._others.append(made)
        try:
            await made.started()
        except BaseException:
            await made.kill()
            raise
        return made

    async def kill(self) -> None:
        assert self._program is not None, "started"
        had_ended = self._program.has_ended
        await self._program.kill()
        for other in self._others:
            await other.kill()
        if not had_ended:
            await self._runtime.clean_up(self._spec)

    @property
    def _process(self) -> OCIProcess:
        assert self._first is not None, "started"
        return self._first


def _resize(processes: Sequence[int], rows: int, columns: int) -> bool:
    """Resize the terminal of the first process that has one as a standard descriptor."""
    for process, number in itertools.product(processes, (0, 1, 2)):
        with contextlib.suppress(OSError):
            flags = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(f"/proc/{process}/fd/{number}", flags)
            try:
                if os.isatty(descriptor):
                    size = struct.pack("HHHH", rows, columns, 0, 0)
                    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, size)
                    return True
            finally:
                os.close(descriptor)
    return False
