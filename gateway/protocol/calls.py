"""Errors at the edge of gRPC: what a handler raises becomes a status, what a call gets an error.

The only module of this package that imports `grpc` (besides the generated `_pb2_grpc` ones).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, Final, NoReturn

import grpc
import grpc.aio

from torana.core.errors import ToranaError
from torana.gateway.protocol.errors import decode_status, error_of, status_of
from torana.gateway.protocol.status_pb2 import Status

DETAILS_KEY: Final = "grpc-status-details-bin"
log = logging.getLogger(__name__)

_BY_NUMBER: Final = {code.value[0]: code for code in grpc.StatusCode}


async def abort(context: grpc.aio.ServicerContext[Any, Any], status: Status) -> NoReturn:
    """End the call with `status`, its details in the trailer."""
    trailers = ((DETAILS_KEY, status.SerializeToString()),) if status.details else ()
    code = _BY_NUMBER.get(status.code, grpc.StatusCode.UNKNOWN)
    await context.abort(code, status.message, trailers)
    raise AssertionError("abort returned")


def call_status(error: grpc.RpcError) -> Status:
    """Give the status that ended a call, with its details."""
    assert isinstance(error, grpc.aio.AioRpcError)
    code, message = error.code().value[0], error.details() or ""
    trailers = error.trailing_metadata()
    data = next((value for key, value in trailers or () if key == DETAILS_KEY), b"")
    return decode_status(data if isinstance(data, bytes) else b"", code, message)


class FirstStatus:
    """The first status of a call that this side makes, which is the true one.

    A write that comes too late fails inside grpcio, which then puts a status of its own in its
    place.
    """

    def __init__(self, call: Any) -> None:
        self.error: grpc.aio.AioRpcError | None = None  # also for OK; None until the call ends
        call.add_done_callback(self._note)

    def _note(self, call: Any) -> None:
        if self.error is None:
            parts = (call.code(), call.trailing_metadata(), call.details())
            code, trailers, details = (_result(part) for part in parts)
            self.error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, details)


def _result(ready: Coroutine[Any, Any, Any]) -> Any:
    """Give what a coroutine gives that has nothing to wait for."""
    try:
        ready.send(None)
    except StopIteration as finished:
        return finished.value
    raise AssertionError("it had to wait")


@contextmanager
def remote_errors() -> Iterator[None]:
    """Raise what calls in the block fail with as our errors.

    Raises:
        ToranaError: the peer reported it, or cannot be reached.
    """
    failure: ToranaError | None = None
    try:
        yield
    except grpc.aio.AioRpcError as err:
        failure = error_of(call_status(err))
    if failure is not None:
        raise failure


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Makes statuses of whatever handlers raise; without it details are lost and texts mangled."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = str(handler_call_details.method)
        serializers = (handler.request_deserializer, handler.response_serializer)
        if handler.request_streaming and handler.response_streaming:
            wrapped = _streaming(handler.stream_stream, method)
            return grpc.stream_stream_rpc_method_handler(wrapped, *serializers)
        if handler.response_streaming:
            wrapped = _streaming(handler.unary_stream, method)
            return grpc.unary_stream_rpc_method_handler(wrapped, *serializers)
        if handler.request_streaming:
            wrapped = _single(handler.stream_unary, method)
            return grpc.stream_unary_rpc_method_handler(wrapped, *serializers)
        wrapped = _single(handler.unary_unary, method)
        return grpc.unary_unary_rpc_method_handler(wrapped, *serializers)


Behavior = Callable[[Any, Any], Any]


def _single(behavior: Behavior, method: str) -> Any:
    async def call(request: Any, context: Any) -> Any:
        try:
            return await behavior(request, context)
        except BaseException as err:
            await _fail(err, context, method)

    return call


def _streaming(behavior: Behavior, method: str) -> Any:
    async def call(request: Any, context: Any) -> None:
        try:
            answers = behavior(request, context)
            if not hasattr(answers, "__aiter__"):
                await answers
                return
            async with aclosing(answers):
                async for answer in answers:
                    await context.write(answer)
        except BaseException as err:
            await _fail(err, context, method)

    return call


async def _fail(error: BaseException, context: Any, method: str) -> NoReturn:
    if isinstance(error, grpc.aio.AbortError | KeyboardInterrupt | SystemExit):
        raise error
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        raise error
    if isinstance(error, grpc.aio.AioRpcError):  # of a call that the handler made
        await abort(context, call_status(error))
    if isinstance(error, Exception) and not isinstance(error, ToranaError | OSError):
        log.error("%s failed", method, exc_info=error)
    await abort(context, status_of(error))
