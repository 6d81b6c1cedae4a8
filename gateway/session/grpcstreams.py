"""The seam on grpcio: `TunnelSession` calls a client, `make_server` makes one's server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NoReturn

import grpc
import grpc.aio

from torana.core.errors import ToranaError
from torana.gateway.protocol import limits
from torana.gateway.protocol.calls import FirstStatus, abort, call_status
from torana.gateway.protocol.errors import error_of, status_of
from torana.gateway.session.local import handlers
from torana.gateway.session.transport import (
    Handler,
    Metadata,
    Service,
    SessionLostError,
    Stream,
    Streaming,
    Unary,
    status_code,
)

log = logging.getLogger(__name__)

# What grpcio says of the calls of a channel that was closed at this end while they ran.
CLOSED_HERE = "Locally cancelled by application!"


class TunnelSession:
    """A client behind a channel. Its owner closes it when the channel ends."""

    def __init__(
        self, channel: grpc.aio.Channel, *, id: str, shared_key: str, methods: Iterable[str]
    ) -> None:
        self.id = id
        self.shared_key = shared_key
        self._channel = channel
        self._methods = frozenset(method.lower() for method in methods)
        self._closed = asyncio.Event()
        self._reason = ""

    @property
    def is_closed(self) -> bool:
        return self._closed.is_set()

    async def closed(self) -> None:
        await self._closed.wait()

    def close(self, reason: str) -> None:
        """Note that the client is gone; its calls fail when the channel is closed."""
        self._reason = self._reason or reason
        self._closed.set()

    def supports(self, method: str) -> bool:
        return method.lower() in self._methods

    async def unary(self, method: str, request: bytes, metadata: Metadata = ()) -> bytes:
        with self.errors():
            call: Any = self._channel.unary_unary(method)
            answer: bytes = await call(request, metadata=tuple(metadata))
            return answer
        raise AssertionError("errors are raised")

    @asynccontextmanager
    async def stream(self, method: str, metadata: Metadata = ()) -> AsyncIterator[Stream]:
        with self.errors():
            call: Any = self._channel.stream_stream(method)(metadata=tuple(metadata))
        try:
            yield _CallStream(self, call)
        finally:
            call.cancel()  # does nothing to one that has ended

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise what grpcio raises in the block as our errors."""
        failure: ToranaError
        try:
            yield
            return
        except grpc.aio.AioRpcError as err:
            failure = error_of(call_status(err))
            if err.code() == grpc.StatusCode.UNAVAILABLE:
                failure = self._lost(err.details())
            elif err.details() == CLOSED_HERE:
                failure = self._lost()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            failure = self._lost()  # grpcio's way to say that the channel was closed
        except (grpc.aio.BaseError, asyncio.InvalidStateError):
            failure = self._lost()
        raise failure

    def _lost(self, details: str | None = None) -> ToranaError:
        text = self._reason or details
        reason = f": {text}" if text else ""
        return SessionLostError(
            f"client session {self.id} was lost{reason}",
            hint="the client of this build has ended or cannot be reached any more",
        )


class _CallStream:
    """The calling end of a stream."""

    def __init__(self, session: TunnelSession, call: Any) -> None:
        self._session = session
        self._call = call
        self._lock = asyncio.Lock()
        self._has_ended = False
        self._status = FirstStatus(call)

    async def send(self, message: bytes) -> None:
        async with self._lock:  # grpcio takes one write at a time
            with self._session.errors():
                if self._call.done():
                    await self._over()
                try:
                    await self._call.write(message)
                except asyncio.InvalidStateError:
                    await self._over()
                except grpc.aio.AioRpcError:
                    await self._over()

    async def receive(self) -> bytes | None:
        with self._session.errors():
            try:
                message = await self._call.read()
            except grpc.aio.AioRpcError:
                await self._over()
            if message is not grpc.aio.EOF:
                received: bytes = message
                return received
            code = await self._call.code()
            if code is grpc.StatusCode.OK:
                return None
            await self._over()
        raise AssertionError("errors are raised")

    async def end(self) -> None:
        async with self._lock:
            if not self._has_ended and not self._call.done():
                self._has_ended = True
                with self._session.errors():
                    await self._call.done_writing()

    async def _over(self) -> NoReturn:
        """Raise what the call ended with, waiting for it where it is about to end."""
        await self._call.code()
        error = self._status.error
        assert error is not None, "noted before anybody else hears of it"
        if error.code() is grpc.StatusCode.OK:
            raise ToranaError("the call is over")
        raise error


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
