"""`ChannelTransport`: calls over a gRPC channel."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import grpc.aio

from torana.gateway.protocol import gateway_pb2 as pb
from torana.gateway.protocol.calls import remote_errors
from torana.gateway.protocol.gateway_pb2_grpc import LLBBridgeStub

if TYPE_CHECKING:
    from torana.gateway.protocol.gateway_pb2_grpc import LLBBridgeAsyncStub

_PING_S: Final = 15

CallMetadata = Sequence[tuple[str, str]]


class ChannelTransport:
    """`metadata` goes with each call: on a control socket it names the build."""

    def __init__(self, channel: grpc.aio.Channel, metadata: CallMetadata = ()) -> None:
        self._stub: LLBBridgeAsyncStub = LLBBridgeStub(channel)
        self._metadata = tuple(metadata)

    async def call(self, method: str, request: Any) -> Any:
        timeout_s = _PING_S if method == "Ping" else None
        with remote_errors():
            call = getattr(self._stub, method)
            return await call(request, metadata=self._metadata, timeout=timeout_s)

    def exec_process(self) -> ChannelExecCall:
        return ChannelExecCall(self._stub.ExecProcess(metadata=self._metadata))


class ChannelExecCall:
    """An `ExecProcess` stream on a channel."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._lock = asyncio.Lock()  # of writes: grpcio takes one at a time

    async def send(self, message: pb.ExecMessage) -> None:
        async with self._lock:
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await self._call.write(message)

    async def half_close(self) -> None:
        async with self._lock:
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await self._call.done_writing()

    async def __aiter__(self) -> AsyncIterator[pb.ExecMessage]:
        with remote_errors():
            async for message in self._call:
                yield message

    def cancel(self) -> None:
        self._call.cancel()
