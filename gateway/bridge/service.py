"""LLBBridge as a gRPC service, and `hosted`: a server for one frontend on one connection.

Spec: docs/adr/0008-grpc-aio-for-the-bridge.md.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from torana.core.errors import UnsupportedError
from torana.gateway.bridge.bridge import Bridge
from torana.gateway.bridge.execs import ExecStream
from torana.gateway.client.sockets import private_address
from torana.gateway.protocol import gateway_pb2 as pb
from torana.gateway.protocol import gateway_pb2_grpc, health_pb2, health_pb2_grpc, limits
from torana.gateway.protocol.calls import ErrorInterceptor

FindBridge = Callable[[grpc.aio.ServicerContext[Any, Any]], Awaitable[Bridge]]


class BridgeService(gateway_pb2_grpc.LLBBridgeServicer):
    """Hands each call to the bridge that `find` gives for it, by its metadata.

    The server needs `ErrorInterceptor`, which makes statuses of what is raised.
    """

    def __init__(self, find: FindBridge) -> None:
        self._find = find

    async def ResolveImageConfig(self, request: Any, context: Any) -> Any:
        return await (await self._find(context)).answer("ResolveImageConfig", request)

    async def ResolveSourceMeta(self, request: Any, context: Any) -> Any:
        return await (await self._find(context)).answer("ResolveSourceMeta", request)

    async def Solve(self, request: Any, context: Any) -> Any:
        return await (await self._find(context)).answer("Solve", request)

    async def ReadFile(self, request: Any, context: Any) -> Any:
        return await (await self._find(context)).answer("ReadFile", request)

    async def ReadDir(self, request: Any, context: Any) -> Any:
        return await (await self._find(context)).answer("ReadDir", request)

    async def StatFile(self, request: Any, context: Any) -> Any:
        return await (await self._find(context)).answer("StatFile", request)

    async def Evaluate(self, request: Any, context: Any) -> Any:
        return await (await self._find(context)).answer("Evaluate", request)

    async def Ping(self, request: Any, context: Any) -> Any:
        return await (await self._find(context)).answer("Ping", request)

    async def Return(self, request: Any, context: Any) -> Any:
        return await (await self._find(context)).answer("Return", request)

    async def Inputs(self, request: Any, context: Any) -> Any:
        return await (await self._find(context)).answer("Inputs", request)

    async def NewContainer(self, request: Any, context: Any) -> Any:
        return await (await self._find(context)).answer("NewContainer", request)

    async def ReleaseContainer(self, request: Any, context: Any) -> Any:
        return await (await self._find(context)).answer("ReleaseContainer", request)

    async def ExecProcess(
        self, requests: AsyncIterator[pb.ExecMessage], context: Any
    ) -> AsyncIterator[pb.ExecMessage]:
        stream = ExecStream(await self._find(context))
        async for answer in stream.answers(requests):
            yield answer

    async def ReadFileContainer(self, request: Any, context: Any) -> Any:
        return await (await self._find(context)).answer("ReadFileContainer", request)

    async def ReadDirContainer(self, request: Any, context: Any) -> Any:
        return await (await self._find(context)).answer("ReadDirContainer", request)

    async def StatFileContainer(self, request: Any, context: Any) -> Any:
        return await (await self._find(context)).answer("StatFileContainer", request)

    async def Warn(self, request: Any, context: Any) -> Any:
        return await (await self._find(context)).answer("Warn", request)


class _Health(health_pb2_grpc.HealthServicer):
    async def Check(self, request: Any, context: Any) -> health_pb2.HealthCheckResponse:
        serving = health_pb2.HealthCheckResponse.ServingStatus.SERVING
        return health_pb2.HealthCheckResponse(status=serving)

    async def List(self, request: Any, context: Any) -> Any:
        raise UnsupportedError("health of several services is not told")

    def Watch(self, request: Any, context: Any) -> Any:
        raise UnsupportedError("health is not watched")


@asynccontextmanager
async def served(bridge: Bridge, path: Path) -> AsyncIterator[None]:
    """Serve a bridge on the new unix socket `path` while entered."""

    async def find(context: object) -> Bridge:
        return bridge

    server = grpc.aio.server(interceptors=[ErrorInterceptor()], options=list(limits.SERVER))
    gateway_pb2_grpc.add_LLBBridgeServicer_to_server(BridgeService(find), server)
    health_pb2_grpc.add_HealthServicer_to_server(_Health(), server)
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)


@asynccontextmanager
async def hosted(bridge: Bridge) -> AsyncIterator[socket.socket]:
    """Serve a bridge to whoever gets the socket, which is the other end of its only connection.

    grpcio serves listening sockets only. So it listens in a folder that nobody else may enter, we
    connect, and the name is gone before anything else could.
    """
    with private_address() as address:
        async with served(bridge, address):
            connection = socket.socket(socket.AF_UNIX)
            with connection:
                connection.connect(str(address))
                address.unlink()
                yield connection
