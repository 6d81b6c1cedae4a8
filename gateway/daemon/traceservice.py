"""OpenTelemetry's trace service: clients send their spans when they are done, steps while they run.

Spans go to the collector, if there is one. Messages are not looked into, so that no library is
needed for those who have none.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

import grpc.aio

_SERVICE: Final = "opentelemetry.proto.collector.trace.v1.TraceService"
_NAME: Final = "otel-grpc.sock"


def trace_handler(forward: Callable[[bytes], None]) -> grpc.GenericRpcHandler:
    """Give a handler of the service that hands each request to `forward`, which must not block."""

    async def export(request: bytes, context: Any) -> bytes:
        forward(request)
        return b""

    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(export)
    return grpc.method_handlers_generic_handler(_SERVICE, {"Export": handler})


class TraceSocket:
    """The service on a socket for steps, whoever they run as; only they can get at it."""

    def __init__(self, path: Path, server: grpc.aio.Server) -> None:
        self.path = path
        self._server = server

    @classmethod
    async def open(cls, root: Path, forward: Callable[[bytes], None]) -> Self:
        """Listen in the private folder `root`."""
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((trace_handler(forward),))
        # Addresses of sockets are at most 107 bytes long, our folder's path may be longer.
        folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            server.add_insecure_port(f"unix:/proc/self/fd/{folder}/{_NAME}")
            await server.start()
        finally:
            os.close(folder)
        path = root / _NAME
        path.chmod(0o666)
        return cls(path, server)

    async def close(self) -> None:
        """End it; spans that are on their way are lost."""
        await self._server.stop(None)
        self.path.unlink(missing_ok=True)
