"""OpenTelemetry's trace service: clients send their spans when they are done.

Spans go to the collector, if there is one. Messages are not looked into, so that no library is
needed for those who have none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import grpc

_SERVICE: Final = "opentelemetry.proto.collector.trace.v1.TraceService"


def trace_handler(forward: Callable[[bytes], None]) -> grpc.GenericRpcHandler:
    """Give a handler of the service that hands each request to `forward`, which must not block."""

    async def export(request: bytes, context: Any) -> bytes:
        forward(request)
        return b""

    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(export)
    return grpc.method_handlers_generic_handler(_SERVICE, {"Export": handler})
