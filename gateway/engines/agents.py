"""`SshAgents`: agents of this machine for steps that run on it.

A step gets a socket of its own; what it sends there goes to the agent and back. Keys that were
given as files are held by an agent that lives as long as the step.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from torana.core.errors import ToranaError, UnsupportedError, UserError
from torana.gateway.engines.engine import AgentSource

_CHUNK: Final = 1 << 16
_START_TRIES: Final = 200
_START_PAUSE_S: Final = 0.01


class SshAgents:
    """Forwards the agents of a build request; ids that it does not know are not forwarded."""

    def __init__(self, sources: Sequence[AgentSource]) -> None:
        self._sources = {source.id: source for source in sources}

    @asynccontextmanager
    async def forward(self, id: str, socket: Path) -> AsyncIterator[bool]:
        """Listen on the new socket `socket` while entered; False: no such agent.

        Raises:
            UserError: a key cannot be read.
            UnsupportedError: keys were given, and there is no ssh-agent program.
        """
        source = self._sources.get(id or "default")
        if source is None:
            yield False
            return
        if source.socket is not None:
            async with _listening(socket, source.socket):
                yield True
            return
        async with key_agent(source.keys) as agent, _listening(socket, agent):
            yield True


@asynccontextmanager
async def _listening(socket: Path, agent: Path) -> AsyncIterator[None]:
    """Hand connections to `socket` on to the agent; those open at the end are cut."""
    running: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(_hand_on(reader, writer, agent))
        running.add(task)
        task.add_done_callback(running.discard)

    server = await asyncio.start_unix_server(connected, socket)
    try:
        yield
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        socket.unlink(missing_ok=True)


async def _hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, agent: Path) -> None:
    try:
        from_agent, to_agent = await asyncio.open_unix_connection(agent)
    except OSError:
        writer.close()
        return
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_copy(reader, to_agent))
            group.create_task(_copy(from_agent, writer))
    except* OSError:
        pass  # either side is gone: the step sees a closed connection
    finally:
        for end in (writer, to_agent):
            end.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        with suppress(OSError):
            writer.write_eof()


@asynccontextmanager
async def key_agent(keys: Sequence[Path]) -> AsyncIterator[Path]:
    """Run an agent of our own that holds `keys`."""
    program = shutil.which("ssh-agent")
    if program is None or shutil.which("ssh-add") is None:
        raise UnsupportedError(
            "keys for --ssh need the programs ssh-agent and ssh-add",
            hint="install openssh-client, or name the socket of a running agent",
        )
    with tempfile.TemporaryDirectory(prefix="torana-ssh-") as folder:
        socket = Path(folder, "agent.sock")
        agent = await asyncio.create_subprocess_exec(
            program,
            "-D",
            "-a",
            str(socket),
            env={"PATH": os.environ.get("PATH", os.defpath)},  # in the rest there may be secrets
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            await _started(agent, socket)
            for key in keys:
                await _add(key, socket)
            yield socket
        finally:
            if agent.returncode is None:
                agent.terminate()
            await agent.wait()


async def _started(agent: asyncio.subprocess.Process, socket: Path) -> None:
    for _ in range(_START_TRIES):
        # The socket is there before the agent listens on it.
        with suppress(OSError):
            _, writer = await asyncio.open_unix_connection(socket)
            writer.close()
            return
        if agent.returncode is not None:
            break
        await asyncio.sleep(_START_PAUSE_S)
    raise ToranaError("ssh-agent did not start")


async def _add(key: Path, socket: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        "ssh-add",
        "-q",
        str(key),
        env={**os.environ, "SSH_AUTH_SOCK": str(socket), "SSH_ASKPASS_REQUIRE": "never"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    if process.returncode:
        lines = errors.decode("utf-8", "replace").strip().splitlines()
        raise UserError(
            f"ssh key cannot be used: {lines[0] if lines else 'ssh-add failed'}: `{key}`",
            hint="keys with a passphrase go into an agent first: ssh-add, then --ssh default",
        )
