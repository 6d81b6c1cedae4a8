"""A gRPC channel over this process's standard input and output, as an engine gives them.

The process is the client. grpcio makes channels to addresses only: so a private socket is listened
on, the channel connects to it, and two threads copy between that connection and the descriptors.

Spec: docs/adr/0008-grpc-aio-for-the-bridge.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import grpc.aio

from torana.gateway.client.sockets import private_address
from torana.gateway.protocol import limits

_CHUNK: Final = 1 << 18
_FLUSH_S: Final = 10


def take_stdio() -> tuple[int, int]:
    """Take standard input and output for the connection.

    What the program prints from now on goes to standard error: a stray line would break it.
    """
    sys.stdout.flush()
    taken = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return taken


@asynccontextmanager
async def channel_over(read_end: int, write_end: int) -> AsyncIterator[grpc.aio.Channel]:
    """Have a channel over two descriptors (which may be one socket); they are used up."""
    with private_address() as address:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(address))
            listener.listen(1)
            listener.setblocking(False)
            channel = grpc.aio.insecure_channel(f"unix:{address}", options=limits.TUNNEL_CHANNEL)
            async with channel:
                channel.get_state(try_to_connect=True)
                connection, _ = await asyncio.get_running_loop().sock_accept(listener)
                address.unlink()
                with _Pump(connection, read_end, write_end):
                    yield channel
                    await channel.close()


class _Pump:
    """Copies both ways while entered. When left, what was written is flushed first."""

    def __init__(self, connection: socket.socket, read_end: int, write_end: int) -> None:
        self._connection = connection
        self._read_end = read_end
        self._write_end = write_end
        connection.setblocking(True)
        for descriptor in (read_end, write_end):
            os.set_blocking(descriptor, True)
        self._inward = threading.Thread(target=self._copy_in, daemon=True)
        self._outward = threading.Thread(target=self._copy_out, daemon=True)

    def __enter__(self) -> None:
        self._inward.start()
        self._outward.start()

    def __exit__(self, *error: object) -> None:
        # A closed channel keeps its connection for a while; what is in it is copied all the same.
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._outward.join(timeout=_FLUSH_S)
        if _shut_down(self._read_end, self._write_end):
            self._inward.join(timeout=_FLUSH_S)
            os.close(self._read_end)
        # Else the inward copy may wait on a pipe for ever; it is a daemon thread.
        if self._write_end != self._read_end:
            os.close(self._write_end)
        self._connection.close()

    def _copy_in(self) -> None:
        with contextlib.suppress(OSError):
            _copy(lambda: os.read(self._read_end, _CHUNK), self._connection.sendall)
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)

    def _copy_out(self) -> None:
        with contextlib.suppress(OSError):
            _copy(lambda: self._connection.recv(_CHUNK), self._write_all)

    def _write_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._write_end, view) :]


def _shut_down(*descriptors: int) -> bool:
    """End connections so that nobody reads from them any more; says whether all were sockets."""
    if not all(stat.S_ISSOCK(os.fstat(descriptor).st_mode) for descriptor in descriptors):
        return False
    for descriptor in descriptors:
        with socket.socket(fileno=os.dup(descriptor)) as same, contextlib.suppress(OSError):
            same.shutdown(socket.SHUT_RDWR)
    return True


def _copy(read: Callable[[], bytes], write: Callable[[bytes], object]) -> None:
    while data := read():
        write(data)
