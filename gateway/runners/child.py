"""`ChildFrontend`: a frontend in a Python process of its own.

It gets the gateway as standard input and output, its options in the environment, and nothing else
of the build. The same bytes come out as in this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import field
from io import FileIO
from typing import Final

from torana.core.errors import ToranaError
from torana.core.records import dataclass
from torana.gateway.bridge.bridge import Bridge
from torana.gateway.client.client import Result
from torana.gateway.client.environment import FrontendEnvironment
from torana.gateway.runners.conversation import (
    ErrorOutput,
    HostClient,
    conclude,
    named,
    reading,
)
from torana.gateway.runners.limits import VARIABLE, Limits
from torana.gateway.runners.serving import CONFINED, MODULE
from torana.gateway.runners.workers import WORKER, FrontendWorker, FrontendWorkers

_KEPT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "PYTHONPATH", "VIRTUAL_ENV", VARIABLE)
_GRACE_S: Final = 10.0  # for a frontend that is told to stop
_LOOK_S: Final = 1.0  # between looks at a frontend that may be idle
_START_S: Final = 60.0  # from the start of a process to its first call, on a busy machine


@dataclass(frozen=True, slots=True)
class ChildFrontend:
    """Runs the frontend `name`, by `command` if that is given.

    With `is_confined` it has no network, no files but its own, no capabilities, and limits; a
    `command` sees to that itself. `described` is its name in messages; `environment` is added to
    that of its process.
    """

    name: str
    command: Sequence[str] = ()
    is_confined: bool = False
    described: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    interpreter: Sequence[str] = (sys.executable, "-P")
    workers: FrontendWorkers | None = None  # None: a process for this build alone

    async def build(self, client: HostClient) -> Result:
        """Run the process to its end.

        Raises:
            ToranaError: what the frontend returned.
            FrontendFailedError: it returned nothing.
            FrontendLimitError: it used too much.
        """
        from torana.gateway.bridge.service import hosted

        limits = Limits.from_environment()
        bridge = Bridge(client)
        described = self.described or f"`{self.name}`"
        told = FrontendEnvironment(
            options=client.options, session_id=client.session_id, workers=client.workers
        )
        env = {name: os.environ[name] for name in _KEPT if name in os.environ}
        env |= self.environment
        with ExitStack() as stack:
            stack.enter_context(named(self.name))
            log = stack.enter_context(client.vertex(f"[frontend] {described.replace('`', '')}"))
            output = ErrorOutput(log, limits.output_bytes)
            watch = _Watch(bridge, output, limits, described)
            try:
                # Not asyncio's own pipe: a process would not have ended before its last writer has.
                async with hosted(bridge) as connection, reading(output) as write_end:
                    run = self._run_once if self.workers is None else self._run_in_worker
                    code, stopped = await run(env, told.encode(), connection, write_end, watch)
                if stopped is not None and not bridge.has_returned:
                    raise stopped
                return await conclude(bridge, described, code, output)
            finally:
                await bridge.close()

    async def _run_once(
        self,
        env: Mapping[str, str],
        told: Mapping[str, str],
        connection: socket.socket,
        write_end: FileIO,
        watch: _Watch,
    ) -> tuple[int, ToranaError | None]:
        """Run a process that ends with the build."""
        # What it leaves in its folder goes with it, however it ends.
        with tempfile.TemporaryDirectory(prefix="torana.frontend-") as folder:
            process = await asyncio.create_subprocess_exec(
                *self._command(),
                stdin=connection.fileno(),
                stdout=connection.fileno(),
                stderr=write_end.fileno(),
                env={**env, "TMPDIR": folder, **told},
                start_new_session=True,
            )
            connection.close()
            write_end.close()
            return await _see_through(process, watch)

    async def _run_in_worker(
        self,
        env: Mapping[str, str],
        told: Mapping[str, str],
        connection: socket.socket,
        write_end: FileIO,
        watch: _Watch,
    ) -> tuple[int, ToranaError | None]:
        """Run in a process that can be used again, unless the build had to be stopped."""
        assert self.workers is not None
        command = self._command(WORKER)
        worker = await self.workers.take(command, env, write_end.fileno())
        is_reusable = False
        watching = asyncio.ensure_future(watch.until_over(lambda: worker.signal(signal.SIGXCPU)))
        ending = asyncio.ensure_future(_told_of(worker, told, connection, write_end))
        try:
            await asyncio.wait((ending, watching), return_when=asyncio.FIRST_COMPLETED)
            stopped = None if ending.done() else watching.result()
            code = ending.result() if ending.done() else None
            is_reusable = code is not None
            if ending.done() and not is_reusable:
                await worker.see_end(_GRACE_S)
        finally:
            for task in (ending, watching):
                task.cancel()
            await asyncio.gather(ending, watching, return_exceptions=True)
            if is_reusable:
                await self.workers.give_back(worker, command, env)
            else:
                ended = await worker.stop()
        return (ended if code is None else code), stopped

    def _command(self, *more: str) -> Sequence[str]:
        flags = (CONFINED, *more) if self.is_confined else more
        return self.command or (*self.interpreter, "-m", MODULE, *flags, self.name)


@dataclass(frozen=True, slots=True)
class _Watch:
    """What a process may not go on doing."""

    bridge: Bridge
    output: ErrorOutput
    limits: Limits
    described: str

    async def until_over(self, stop: Callable[[], None]) -> ToranaError:
        """Wait until a limit is passed; the frontend may then say more about it, after `stop`."""
        from torana.gateway.runners.crashes import idle_limit, output_limit

        while (left := self._allowed_s() - self.bridge.idle_s()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(_LOOK_S, left)):
                    await self.output.is_over.wait()
                return output_limit(self.described, self.limits)
        stop()
        await asyncio.sleep(_GRACE_S)
        return idle_limit(self.described, "", self.limits)

    def _allowed_s(self) -> float:
        return self.limits.idle_s + (0 if self.bridge.calls else _START_S)


async def _told_of(
    worker: FrontendWorker, told: Mapping[str, str], connection: socket.socket, write_end: FileIO
) -> int | None:
    """Hand a build over and wait for its end; see `FrontendWorker.ended`."""
    with contextlib.suppress(ConnectionError):  # it ended while it waited
        worker.begin(told, connection, write_end.fileno())
    connection.close()
    write_end.close()
    return await worker.ended()


async def _see_through(
    process: asyncio.subprocess.Process, watch: _Watch
) -> tuple[int, ToranaError | None]:
    """Wait for the end of a process and kill what is left of its group, also when cancelled.

    Gives its exit code, and the limit for which it was killed.
    """
    ending = asyncio.ensure_future(process.wait())
    watching = asyncio.ensure_future(watch.until_over(lambda: _signal(process, signal.SIGXCPU)))
    try:
        await asyncio.wait((ending, watching), return_when=asyncio.FIRST_COMPLETED)
        stopped = None if ending.done() else watching.result()
    finally:
        watching.cancel()
        _signal(process, signal.SIGKILL)
        await process.wait()
        await asyncio.gather(ending, watching, return_exceptions=True)
    code = ending.result()
    return (code if code >= 0 else 128 - code), stopped


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Signal the group of a process, whether or not the process itself has ended."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
