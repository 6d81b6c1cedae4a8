"""`ProgramContainer`: a container that runs while others talk to it.

The runtime's program stays in the foreground. It is the init of a pid namespace, so a further
process is started from within that namespace, where the ids are that the program wrote down.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import os
import signal
import struct
import termios
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from torana.core.errors import ConflictError
from torana.core.ops.runtime import (
    ContainerSpec,
    ExitStatus,
    ProcessSpec,
    RuntimeFailedError,
    Streams,
)
from torana.plugins.runtimes.launcher import Launch, Program
from torana.plugins.runtimes.outcome import LOG, kernel_kills

_POLL_S: Final = 0.004
_RESIZE_TRIES: Final = 100
_NO_FORWARDING: Final = frozenset({signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGWINCH})

Status = Callable[[int], Awaitable[ExitStatus]]


class ProgramRuntime(Protocol):
    """What a container asks of its runtime."""

    def first(self, spec: ContainerSpec, pid_file: Path | None = None) -> Launch:
        """Give what starts the container; it makes `pid_file`, or `has_started` says more."""
        ...

    def further(
        self, spec: ContainerSpec, process: ProcessSpec, pid_file: Path, log: Path
    ) -> Launch:
        """Give what starts a process beside the first; it says in `log` why it did not."""
        ...

    async def status(
        self, spec: ContainerSpec, code: int, log: Path, kills: int, *, command: str = "run"
    ) -> ExitStatus:
        """Read the end of a program.

        Raises:
            RuntimeFailedError: it was the runtime that failed.
        """
        ...

    async def clean_up(self, spec: ContainerSpec) -> None:
        """Remove what a killed program left outside of its folder."""
        ...


class ProgramProcess:
    """A process and the program that stands for it on this side."""

    def __init__(self, launch: Launch, program: Program, pid_file: Path, status: Status) -> None:
        self._launch = launch
        self._program = program
        self._pid_file = pid_file
        self._status = status

    async def started(self) -> None:
        """Wait until the process runs, or its program has ended.

        Raises:
            RuntimeFailedError: it did not start.
        """
        while not self._has_started():
            if self._program.has_ended:
                status = await self.wait()
                if self._launch.has_started is not None:
                    return  # it was quicker than we are
                raise RuntimeFailedError(f"process did not start: exit code: {status.code}")
            await asyncio.sleep(_POLL_S)

    def _has_started(self) -> bool:
        if self._launch.has_started is None:
            return self._pid_file.exists()
        return self._launch.has_started(self._program.children())

    async def wait(self) -> ExitStatus:
        return await self._status(await self._program.wait())

    def signal(self, number: int) -> None:
        """Send a signal: by the program, or past it where it would not hand it on."""
        if number in _NO_FORWARDING or not self._launch.forwards_signals:
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


class ProgramContainer:
    """A container and its processes."""

    def __init__(self, runtime: ProgramRuntime, spec: ContainerSpec) -> None:
        self._runtime = runtime
        self._spec = spec
        self._first: ProgramProcess | None = None
        self._program: Program | None = None
        self._numbers = itertools.count(1)
        self._others: list[ProgramProcess] = []

    async def start(self, streams: Streams) -> None:
        """Start the first process; only to be called once."""
        spec, kills = self._spec, kernel_kills()
        pid_file = spec.directory / "pid"
        launch = self._runtime.first(spec, pid_file)
        self._program = Program(launch, streams)
        self._first = ProgramProcess(
            launch,
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

    async def exec(self, process: ProcessSpec, streams: Streams) -> ProgramProcess:
        assert self._program is not None, "started"
        if self._program.has_ended:
            raise ConflictError("the container's first process has already exited")
        spec, kills, number = self._spec, kernel_kills(), next(self._numbers)
        log = spec.directory / f"log-{number}.json"
        pid_file = spec.directory / f"pid-{number}"
        launch = self._runtime.further(spec, process, pid_file, log)
        made = ProgramProcess(
            launch,
            Program(launch, streams, beside=self._program),
            pid_file,
            lambda code: self._runtime.status(spec, code, log, kills, command="exec"),
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
    def _process(self) -> ProgramProcess:
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
