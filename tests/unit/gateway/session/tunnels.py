"""A real tunnel in one process: an engine's server on a socket, a client attached to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from torana.gateway.protocol import limits
from torana.gateway.protocol.calls import ErrorInterceptor
from torana.gateway.protocol.control_pb2 import BytesMessage
from torana.gateway.session.client import attach_control, new_id
from torana.gateway.session.manager import SessionManager
from torana.gateway.session.transport import Service, Session


def _control(manager: SessionManager) -> Any:
    """Give just enough of Control."""

    async def serve(requests: object, context: Any) -> None:
        await manager.serve(context)

    handler = grpc.stream_stream_rpc_method_handler(
        serve, BytesMessage.FromString, BytesMessage.SerializeToString
    )
    return grpc.method_handlers_generic_handler("moby.buildkit.v1.Control", {"Session": handler})


@asynccontextmanager
async def engine(folder: Path) -> AsyncIterator[tuple[SessionManager, grpc.aio.Channel]]:
    """Serve sessions; gives the manager and a client's channel."""
    manager = SessionManager()
    server = grpc.aio.server(options=limits.SERVER, interceptors=[ErrorInterceptor()])
    server.add_generic_rpc_handlers((_control(manager),))
    server.add_insecure_port(f"unix:{folder}/e")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"unix:{folder}/e", limits.CHANNEL) as channel:
            yield manager, channel
    finally:
        manager.close()
        await server.stop(2)


@asynccontextmanager
async def tunnelled(
    folder: Path, services: Sequence[Service], shared_key: str = ""
) -> AsyncIterator[Session]:
    """Give the engine's view of a client that is attached through a real tunnel."""
    id = new_id()
    async with engine(folder) as (manager, channel):
        async with attach_control(channel, services, id=id, shared_key=shared_key):
            yield await manager.get(id)
