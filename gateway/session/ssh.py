"""SSH agents of the client, forwarded to steps.

A step may list identities and have things signed; the other messages of the agent's protocol, which
would change the user's agent, are answered with a failure and never reach it.

Spec: `moby.sshforward.v1.SSH`; draft-miller-ssh-agent.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Final

from torana.core.errors import ToranaError, UnsupportedError
from torana.core.pool import tasks_together
from torana.gateway.protocol.sshforward_pb2 import CheckAgentRequest, CheckAgentResponse
from torana.gateway.session.bytestreams import pieces, send_piece
from torana.gateway.session.manager import SessionManager
from torana.gateway.session.transport import (
    Handler,
    Metadata,
    Session,
    Stream,
    Streaming,
    Unary,
    call,
    decode,
    value,
)
from torana.gateway.session.tunnel import SocketBytes

CHECK: Final = "/moby.sshforward.v1.SSH/CheckAgent"
FORWARD: Final = "/moby.sshforward.v1.SSH/ForwardAgent"
_ID: Final = "buildkit.ssh.id"
_DEFAULT: Final = "default"

_ALLOWED: Final = frozenset({11, 13})  # request identities, sign
_FAILURE: Final = b"\0\0\0\1\5"
_MAX_MESSAGE_BYTES: Final = 256 << 10


class SSHAgents:
    """The client's end: sockets of agents by id."""

    def __init__(self, sockets: Mapping[str, Path]) -> None:
        self._sockets = sockets

    def methods(self) -> Mapping[str, Handler]:
        return {CHECK: Unary(self._check), FORWARD: Streaming(self._forward)}

    async def _check(self, request: bytes, metadata: Metadata) -> bytes:
        self._socket(decode(CheckAgentRequest, request, CHECK).ID)
        return CheckAgentResponse().SerializeToString()

    async def _forward(self, stream: Stream, metadata: Metadata) -> None:
        path = self._socket(value(metadata, _ID))
        with socket.socket(socket.AF_UNIX) as connected:
            connected.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connected, os.fspath(path))
            agent, requests, answers = SocketBytes(connected), _Messages(), _Messages()
            async with aclosing(pieces(stream)) as received:
                async for data in received:
                    for message in requests.feed(data):
                        answer = _FAILURE
                        if message[4] in _ALLOWED:
                            await agent.write(message)
                            answer = await _answer(agent, answers)
                        await send_piece(stream, answer)

    def _socket(self, id: str) -> Path:
        found = self._sockets.get(id or _DEFAULT)
        if found is None:
            raise UnsupportedError(f"unset ssh forward key {id or _DEFAULT}")
        return found


async def _answer(agent: SocketBytes, answers: _Messages) -> bytes:
    """Read the one answer to a request."""
    while data := await agent.read():
        for message in answers.feed(data):
            return message
    raise ToranaError("the ssh agent closed its connection")


class _Messages:
    """Cuts a stream of the agent's protocol into messages."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take data; gives the messages that are whole, each with its length before it."""
        self._pending += data
        found = []
        while len(self._pending) > 4:
            size = 4 + int.from_bytes(self._pending[:4], "big")
            if not 4 < size <= _MAX_MESSAGE_BYTES:
                raise ToranaError("malformed message of the ssh agent's protocol")
            if len(self._pending) < size:
                break
            found.append(bytes(self._pending[:size]))
            del self._pending[:size]
        return found


class SessionSSH:
    """The engine's end, an `SSHProvider`: forwards agents of the sessions of a build."""

    def __init__(self, sessions: SessionManager, ids: Sequence[str]) -> None:
        self._sessions = sessions
        self._ids = ids

    @asynccontextmanager
    async def forward(self, id: str, socket: Path) -> AsyncIterator[bool]:
        """Listen on `socket` while entered; False, and no socket, where no session has the agent.

        Raises:
            ToranaError: no session has it, and one could not be asked.
        """
        session = await self._find(id)
        if session is None:
            yield False
            return
        async with _listening(session, id, socket):
            yield True

    async def _find(self, id: str) -> Session | None:
        for session_id in self._ids:
            session = await self._sessions.get(session_id)
            try:
                await call(session, CHECK, CheckAgentRequest(ID=id), CheckAgentResponse)
                return session
            except ToranaError:
                if session.is_closed:
                    raise
        return None


@asynccontextmanager
async def _listening(session: Session, id: str, path: Path) -> AsyncIterator[None]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.setblocking(False)
        listener.bind(os.fspath(path))
        listener.listen(16)
        accepting = asyncio.ensure_future(_accept(listener, session, id))
        try:
            yield
        finally:
            accepting.cancel()
            await asyncio.wait([accepting])
            path.unlink(missing_ok=True)


async def _accept(listener: socket.socket, session: Session, id: str) -> None:
    """Serve connections until cancelled; one that fails does not bother the others."""
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        while True:
            connected, _ = await loop.sock_accept(listener)
            group.create_task(_serve(connected, session, id))


async def _serve(connected: socket.socket, session: Session, id: str) -> None:
    with connected:
        connected.setblocking(False)
        step = SocketBytes(connected)
        try:
            async with session.stream(FORWARD, [(_ID, id)]) as stream, tasks_together() as group:
                sending = group.create_task(_to_stream(step, stream))
                async with aclosing(pieces(stream)) as received:
                    async for data in received:
                        await step.write(data)
                await step.end()
                sending.cancel()
        except (ToranaError, OSError):
            return  # the step sees its connection end


async def _to_stream(source: SocketBytes, stream: Stream) -> None:
    while data := await source.read():
        await send_piece(stream, data)
    await stream.end()
