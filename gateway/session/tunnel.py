"""Byte streams and pumps: a connection inside another one, with grpcio at its end.

grpcio cannot serve on a stream that it is handed. So it gets a socket of its own, in a folder that
only this user may enter and that is gone with the session; a pump copies between that socket and
the stream.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol

import grpc
import grpc.aio

from torana.core.errors import ToranaError
from torana.gateway.protocol.control_pb2 import BytesMessage

_READ_BYTES: Final = 256 << 10
_MAX_FOLDER: Final = 80  # addresses of sockets have 107 bytes


class ByteStream(Protocol):
    """A connection; one reader and one writer at a time."""

    async def read(self) -> bytes:
        """Give what has come, empty at the end."""
        ...

    async def write(self, data: bytes) -> None: ...

    async def end(self) -> None:
        """Say that nothing more will be written."""
        ...


class SocketBytes:
    """A connected socket that does not block; whoever made it closes it."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    async def read(self) -> bytes:
        try:
            return await asyncio.get_running_loop().sock_recv(self._socket, _READ_BYTES)
        except ConnectionError:
            return b""

    async def write(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def end(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)


class CallBytes:
    """The bytes of a call of `Control.Session`, at either end of it."""

    def __init__(self, call: Any) -> None:
        """Take the context of a handler, or the call of a client."""
        self._call = call

    async def read(self) -> bytes:
        message = b""
        while not message:  # empty ones have no meaning
            with _cancelled_call():
                received = await self._call.read()
            if received is grpc.aio.EOF:
                return b""
            message = received.data
        return message

    async def write(self, data: bytes) -> None:
        with _cancelled_call():
            await self._call.write(BytesMessage(data=data))

    async def end(self) -> None:
        if hasattr(self._call, "done_writing"):
            await self._call.done_writing()


@contextmanager
def _cancelled_call() -> Iterator[None]:
    """Tell a call that was cancelled, which grpcio raises in whoever uses it, from a task that was.

    Raises:
        ConnectionResetError: the call was cancelled.
    """
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise ConnectionResetError("the call was cancelled") from None


async def pump(one: ByteStream, other: ByteStream) -> None:
    """Copy in both directions until both have ended, or one is broken."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_copy(one, other))
        group.create_task(_copy(other, one))


async def _copy(source: ByteStream, target: ByteStream) -> None:
    while data := await source.read():
        await target.write(data)
    await target.end()


@contextmanager
def private_address() -> Iterator[Path]:
    """Give a path for a socket that only this user can reach; it is gone at the end."""
    base = tempfile.gettempdir()
    folder = tempfile.mkdtemp(prefix="torana-", dir=base if len(base) < _MAX_FOLDER else "/tmp")
    try:
        yield Path(folder, "s")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def tunnel_server(server: grpc.aio.Server) -> AsyncIterator[SocketBytes]:
    """Start a server, and give the bytes of the only connection to it."""
    try:
        with socket.socket(socket.AF_UNIX) as connected:
            connected.setblocking(False)
            with private_address() as path:
                if not server.add_insecure_port(f"unix:{path}"):
                    raise ToranaError(f"cannot listen on a private socket: `{path}`")
                await server.start()
                await asyncio.get_running_loop().sock_connect(connected, os.fspath(path))
            yield SocketBytes(connected)
    finally:
        await server.stop(None)  # after the socket: it waits for what it cannot write any more
