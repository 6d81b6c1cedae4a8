"""`Transport`: how a `RemoteClient` reaches its bridge: over gRPC, in this process, a recording."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

from torana.gateway.protocol import gateway_pb2 as pb


class ExecCall(Protocol):
    """An `ExecProcess` stream."""

    async def send(self, message: pb.ExecMessage) -> None:
        """Send a message; on a broken stream nothing happens, readers get the reason."""
        ...

    async def half_close(self) -> None:
        """Send nothing more."""
        ...

    def __aiter__(self) -> AsyncIterator[pb.ExecMessage]:
        """Give the messages of the other end.

        Raises:
            ToranaError: the stream broke.
        """
        ...

    def cancel(self) -> None: ...


class Transport(Protocol):
    """Carries calls of LLBBridge."""

    async def call(self, method: str, request: Any) -> Any:
        """Call a method, by the name it has in the service.

        Raises:
            ToranaError: what the other end reports, of the same class where it is Torana's.
        """
        ...

    def exec_process(self) -> ExecCall:
        """Open a stream for processes."""
        ...
