"""The client's end of the seam on grpcio: `make_server` makes its server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import grpc
import grpc.aio

from torana.core.errors import ToranaError
from torana.gateway.protocol import limits
from torana.gateway.protocol.calls import abort
from torana.gateway.protocol.errors import status_of
from torana.gateway.session.local import handlers
from torana.gateway.session.transport import (
    Handler,
    Metadata,
    Service,
    Streaming,
    Unary,
    status_code,
)

log = logging.getLogger(__name__)


def make_server(services: Iterable[Service]) -> tuple[grpc.aio.Server, Mapping[str, Handler]]:
    """Make the server of a client, not bound to anything yet, and give what it serves."""
    served = handlers(services)
    server = grpc.aio.server(options=limits.SERVER)
    by_service: dict[str, dict[str, Any]] = {}
    for path, handler in served.items():
        service, _, method = path.lstrip("/").partition("/")
        if isinstance(handler, Unary):
            made: Any = grpc.unary_unary_rpc_method_handler(_unary(handler))
        else:
            made = grpc.stream_stream_rpc_method_handler(_streaming(handler))
        by_service.setdefault(service, {})[method] = made
    server.add_generic_rpc_handlers(
        tuple(
            grpc.method_handlers_generic_handler(name, methods)
            for name, methods in by_service.items()
        )
    )
    return server, served


def _unary(handler: Unary) -> Any:
    async def call(request: bytes, context: Any) -> Any:
        return await _with_status(lambda: handler.call(request, _metadata(context)), context)

    return call


def _streaming(handler: Streaming) -> Any:
    async def call(requests: object, context: Any) -> None:
        stream = _HandlerStream(context)
        await _with_status(lambda: handler.call(stream, _metadata(context)), context)

    return call


async def _with_status(run: Callable[[], Awaitable[Any]], context: Any) -> Any:
    try:
        return await run()
    except Exception as err:
        if isinstance(err, grpc.aio.AbortError):
            raise
        if not isinstance(err, ToranaError | OSError):
            log.error("a service of the session failed", exc_info=err)
        await abort(context, status_of(err, status_code(err)))


def _metadata(context: Any) -> Metadata:
    pairs = context.invocation_metadata() or ()
    return [(key, value) for key, value in pairs if isinstance(value, str)]


class _HandlerStream:
    """The serving end of a stream."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._lock = asyncio.Lock()

    async def send(self, message: bytes) -> None:
        async with self._lock:
            try:
                await self._context.write(message)
            except (grpc.aio.BaseError, asyncio.InvalidStateError) as err:
                raise ToranaError("the call is over") from err

    async def receive(self) -> bytes | None:
        try:
            message = await self._context.read()
        except (grpc.aio.BaseError, asyncio.InvalidStateError) as err:
            raise ToranaError("the call is over") from err
        if message is grpc.aio.EOF:
            return None
        received: bytes = message
        return received

    async def end(self) -> None:
        """Nothing to do: the end of the handler says it."""
