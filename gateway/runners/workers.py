"""`FrontendWorkers`: processes of frontends that wait for the next build of a session.

A worker is told of a build over a socket that is its standard input: variables as a line of JSON,
with the descriptors of the gateway and of its standard error. It builds in a fork of itself and
answers with an exit code. The second build by a frontend thus costs no start of Python, no sandbox
and no import of gRPC, and still finds everything as the first one did.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import tempfile
from collections.abc import Hashable, Mapping, Sequence

from torana.core.records import dataclass
from torana.gateway.runners.waiting import WaitingRoom

WORKER = "--worker"


@dataclass(slots=True)
class FrontendWorker:
    """One process, and the folder that it may write to."""

    process: asyncio.subprocess.Process
    control: socket.socket
    folder: tempfile.TemporaryDirectory[str]

    @classmethod
    async def start(
        cls, command: Sequence[str], env: Mapping[str, str], errors: int
    ) -> FrontendWorker:
        """Start a process, which waits for its first build; until then it writes to `errors`."""
        ours, theirs = socket.socketpair()
        folder = tempfile.TemporaryDirectory(prefix="torana.frontend-")
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=theirs.fileno(),
                    stdout=errors,
                    stderr=errors,
                    env={**env, "TMPDIR": folder.name},
                    start_new_session=True,
                )
        except BaseException:
            ours.close()
            folder.cleanup()
            raise
        ours.setblocking(False)
        return cls(process, ours, folder)

    def begin(self, variables: Mapping[str, str], gateway: socket.socket, errors: int) -> None:
        """Hand over a build: its variables, the gateway, and where standard error goes.

        Raises:
            OSError: the process has ended.
        """
        data = json.dumps(dict(variables)).encode() + b"\n"
        self.control.setblocking(True)
        try:
            sent = socket.send_fds(self.control, [data], [gateway.fileno(), errors])
            self.control.sendall(data[sent:])
        finally:
            self.control.setblocking(False)

    async def ended(self) -> int | None:
        """Wait for the end of the build; gives its exit code, None if the process is ending."""
        answer = b""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):
            while not answer.endswith(b"\n"):
                data = await loop.sock_recv(self.control, 16)
                if not data:
                    return None
                answer += data
            return int(answer)
        return None

    async def see_end(self, grace_s: float) -> None:
        """Wait for the end of a process that is ending, but not for ever."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self.process.wait()

    async def stop(self) -> int:
        """Kill the process and all that it started; gives its exit code."""
        self.signal(signal.SIGKILL)
        code = await self.process.wait()
        self.control.close()
        self.folder.cleanup()
        return code if code >= 0 else 128 - code

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


class FrontendWorkers:
    """The workers of one session that have nothing to do, by the command that started them."""

    def __init__(self, room: WaitingRoom | None = None) -> None:
        """Let them wait in `room`, with those of other sessions, or in one of their own."""
        self._room = WaitingRoom() if room is None else room
        self._is_closed = False

    async def take(
        self, command: Sequence[str], env: Mapping[str, str], errors: int
    ) -> FrontendWorker:
        """Give a worker that waits, or a new one; it is the caller's to give back or to stop."""
        while (worker := self._room.call(self, _key(command, env))) is not None:
            if worker.process.returncode is None:
                return worker
            await worker.stop()
        return await FrontendWorker.start(command, env, errors)

    async def give_back(
        self, worker: FrontendWorker, command: Sequence[str], env: Mapping[str, str]
    ) -> None:
        """Keep a worker for the next build."""
        if self._is_closed:
            await worker.stop()
            return
        await self._room.enter(self, _key(command, env), worker)

    async def close(self) -> None:
        """Stop all that wait; what is given back later is stopped, too."""
        self._is_closed = True
        await self._room.dismiss(self)


def _key(command: Sequence[str], env: Mapping[str, str]) -> Hashable:
    return (tuple(command), tuple(sorted(env.items())))
