"""The client's end: serve services to an engine, over `Control.Session` or over a socket.

Spec: docs/design/session.md.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import grpc.aio

from torana.core.errors import ToranaError
from torana.gateway.protocol.calls import FirstStatus, call_status, remote_errors
from torana.gateway.protocol.control_pb2 import BytesMessage
from torana.gateway.protocol.errors import error_of
from torana.gateway.session.grpcstreams import make_server
from torana.gateway.session.health import Health
from torana.gateway.session.local import handlers
from torana.gateway.session.manager import ID, METHOD, SHARED_KEY
from torana.gateway.session.transport import Metadata, Service
from torana.gateway.session.tunnel import (
    ByteStream,
    CallBytes,
    SocketBytes,
    pump,
    tunnel_server,
)

_METHOD: Final = "/moby.buildkit.v1.Control/Session"
_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_CLOSE_S: Final = 5.0
_STATUS_S: Final = 1.0


def new_id() -> str:
    """Give an id for a session or a build, in BuildKit's form."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(25))


def session_metadata(id: str, shared_key: str, services: Iterable[Service]) -> Metadata:
    """Give what tells an engine of a session: metadata of the call, or headers of an upgrade."""
    methods = handlers([Health(), *services])
    return [(ID, id), (SHARED_KEY, shared_key), *((METHOD, name) for name in sorted(methods))]


class Attachment:
    """A session that stands.

    `lost` is set when the engine or the connection is gone, `failure` is what the engine said.
    """

    def __init__(self, id: str) -> None:
        self.id = id
        self.lost = asyncio.Event()
        self.failure: ToranaError | None = None


@asynccontextmanager
async def attach_control(
    channel: grpc.aio.Channel,
    services: Sequence[Service],
    *,
    id: str,
    shared_key: str = "",
) -> AsyncIterator[Attachment]:
    """Serve `services` to buildkitd or toranad while entered.

    Leave it after `Control.Solve` has ended: builds of a session that is gone fail.

    Raises:
        ToranaError: the engine refuses sessions, or cannot be reached.
    """
    opened: Any = channel.stream_stream(
        _METHOD,
        request_serializer=BytesMessage.SerializeToString,
        response_deserializer=BytesMessage.FromString,
    )
    call = opened(metadata=tuple(session_metadata(id, shared_key, services)))
    status = FirstStatus(call)

    async def ended() -> ToranaError | None:
        await call.code()
        error = status.error
        return None if error is None or not error.code().value[0] else error_of(call_status(error))

    try:
        with remote_errors():
            await call.initial_metadata()
        async with _serving(CallBytes(call), services, id, ended) as attachment:
            yield attachment
    finally:
        call.cancel()


@asynccontextmanager
async def attach_socket(
    connected: socket.socket, services: Sequence[Service], *, id: str
) -> AsyncIterator[Attachment]:
    """Serve `services` over a socket that was upgraded to h2c (dockerd's `/session`).

    The socket stays the caller's.
    """
    connected.setblocking(False)

    async def ended() -> None:
        """Sockets say nothing at their end."""

    async with _serving(SocketBytes(connected), services, id, ended) as attachment:
        yield attachment


@asynccontextmanager
async def _serving(
    outer: ByteStream,
    services: Sequence[Service],
    id: str,
    ended: Callable[[], Awaitable[ToranaError | None]],
) -> AsyncIterator[Attachment]:
    """Serve over `outer`; `ended` gives what the engine said when it ended the session."""
    server, _ = make_server([Health(), *services])
    attachment = Attachment(id)
    async with tunnel_server(server) as inner:

        async def serve() -> None:
            with suppress(Exception):  # what the engine said tells more
                await pump(outer, inner)
            with suppress(Exception):
                async with asyncio.timeout(_STATUS_S):
                    attachment.failure = await ended()
            attachment.lost.set()

        pumping = asyncio.ensure_future(serve())
        try:
            yield attachment
            # The engine ends the stream when it has seen our end.
            with suppress(Exception):
                await outer.end()
                await asyncio.wait([pumping], timeout=_CLOSE_S)
        finally:
            pumping.cancel()
            await asyncio.wait([pumping])
