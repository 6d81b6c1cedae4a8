"""`ChildFrontend`: a frontend in a Python process of its own.

It gets the gateway as standard input and output, its options in the environment, and nothing else
of the build. The same bytes come out as in this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from torana.core.errors import ToranaError
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
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        with ExitStack() as stack:
            stack.enter_context(named(self.name))
            log = stack.enter_context(client.vertex(f"[frontend] {described.replace('`', '')}"))
            # What it leaves there goes with it, however it ends.
            kept["TMPDIR"] = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="torana.frontend-")
            )
            output = ErrorOutput(log, limits.output_bytes)
            try:
                # Not asyncio's own pipe: a process would not have ended before its last writer has.
                async with hosted(bridge) as connection, reading(output) as write_end:
                    process = await asyncio.create_subprocess_exec(
                        *self._command(),
                        stdin=connection.fileno(),
                        stdout=connection.fileno(),
                        stderr=write_end.fileno(),
                        env={**kept, **self.environment, **told.encode()},
                        start_new_session=True,
                    )
                    connection.close()
                    write_end.close()
                    code, stopped = await _see_through(
                        process, _Watch(bridge, output, limits, described)
                    )
                if stopped is not None and not bridge.has_returned:
                    raise stopped
                return await conclude(bridge, described, code, output)
            finally:
                await bridge.close()

    def _command(self) -> Sequence[str]:
        flags = (CONFINED,) if self.is_confined else ()
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
