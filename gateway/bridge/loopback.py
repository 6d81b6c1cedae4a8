"""`LoopbackTransport`: a bridge in this process, spoken to in messages.

For what looks at messages: recordings. Frontends in this process otherwise use the client itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from torana.gateway.bridge.bridge import Bridge
from torana.gateway.protocol import gateway_pb2 as pb


class LoopbackTransport:
    """Hands calls to a bridge."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    async def call(self, method: str, request: Any) -> Any:
        return await self._bridge.answer(method, request)

    def exec_process(self) -> LoopbackExecCall:
        return LoopbackExecCall(self._bridge)


class LoopbackExecCall:
    """An `ExecProcess` stream without a connection."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._requests: asyncio.Queue[pb.ExecMessage | None] = asyncio.Queue()

    async def send(self, message: pb.ExecMessage) -> None:
        self._requests.put_nowait(message)

    async def half_close(self) -> None:
        self._requests.put_nowait(None)

    def __aiter__(self) -> AsyncIterator[pb.ExecMessage]:
        from torana.gateway.bridge.execs import ExecStream

        return ExecStream(self._bridge).answers(self._incoming())

    def cancel(self) -> None:
        self._requests.put_nowait(None)  # which ends the processes

    async def _incoming(self) -> AsyncIterator[pb.ExecMessage]:
        while (message := await self._requests.get()) is not None:
            yield message
