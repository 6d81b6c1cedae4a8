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
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

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
from torana.gateway.runners.serving import CONFINED, MODULE

_KEPT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "PYTHONPATH", "VIRTUAL_ENV")


@dataclass(frozen=True, slots=True)
class ChildFrontend:
    """Runs the frontend `name`, by `command` if that is given.

    With `is_confined` it has no network, no place to write to but a temporary folder, no
    capabilities, and limits; a `command` sees to that itself.
    """

    name: str
    command: Sequence[str] = ()
    is_confined: bool = False

    async def build(self, client: HostClient) -> Result:
        """Run the process to its end.

        Raises:
            ToranaError: what the frontend returned.
            FrontendFailedError: it returned nothing.
        """
        from torana.gateway.bridge.service import hosted

        bridge = Bridge(client)
        flags = (CONFINED,) if self.is_confined else ()
        command = self.command or (sys.executable, "-m", MODULE, *flags, self.name)
        told = FrontendEnvironment(
            options=client.options, session_id=client.session_id, workers=client.workers
        )
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        with ExitStack() as stack:
            stack.enter_context(named(self.name))
            log = stack.enter_context(client.vertex(f"[frontend] {self.name}"))
            # What it leaves there goes with it, however it ends.
            kept["TMPDIR"] = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="torana.frontend-")
            )
            output = ErrorOutput(log)
            try:
                # Not asyncio's own pipe: a process would not have ended before its last writer has.
                async with hosted(bridge) as connection, reading(output) as write_end:
                    process = await asyncio.create_subprocess_exec(
                        *command,
                        stdin=connection.fileno(),
                        stdout=connection.fileno(),
                        stderr=write_end.fileno(),
                        env={**kept, **told.encode()},
                        start_new_session=True,
                    )
                    connection.close()
                    write_end.close()
                    code = await _see_through(process)
                return await conclude(bridge, self.name, code, output)
            finally:
                await bridge.close()


async def _see_through(process: asyncio.subprocess.Process) -> int:
    """Wait for the end of a process and kill what is left of its group, also when cancelled."""
    try:
        code = await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return code if code >= 0 else 128 - code
