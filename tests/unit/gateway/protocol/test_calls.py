"""Errors through a real server and channel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from torana.core.errors import NotFoundError, SourceExcerpt, SourceRange, ToranaError, UserError
from torana.gateway.protocol import errors, limits
from torana.gateway.protocol.calls import ErrorInterceptor, remote_errors
from torana.gateway.protocol.control_pb2 import BytesMessage
from torana.gateway.protocol.errors import RemoteError

TEXT = b"# " + b"x" * 200_000  # far above grpcio's own limit for metadata
EXCERPT = SourceExcerpt("Dockerfile", TEXT, (SourceRange.lines("Dockerfile", 1),))


async def fail(request: BytesMessage, context: Any) -> BytesMessage:
    match request.data:
        case b"user":
            raise UserError("wrong", hint="better", sources=[EXCERPT])
        case b"bug":
            raise ZeroDivisionError("division by zero")
        case b"cancelled":
            raise asyncio.CancelledError
    return BytesMessage(data=request.data)


async def fail_streaming(request: BytesMessage, context: Any) -> AsyncIterator[BytesMessage]:
    yield BytesMessage(data=b"first")
    raise NotFoundError("no more")


async def fail_writing(requests: AsyncIterator[BytesMessage], context: Any) -> None:
    async for request in requests:
        await context.write(request)
        raise NotFoundError("no more")


async def fail_collecting(requests: AsyncIterator[BytesMessage], context: Any) -> BytesMessage:
    sizes = [len(request.data) async for request in requests]
    raise NotFoundError(f"none of {sum(sizes)}")


CODEC = (BytesMessage.FromString, BytesMessage.SerializeToString)


@asynccontextmanager
async def channel(folder: Path) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server(options=limits.SERVER, interceptors=[ErrorInterceptor()])
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(fail, *CODEC),
        "Down": grpc.unary_stream_rpc_method_handler(fail_streaming, *CODEC),
        "Both": grpc.stream_stream_rpc_method_handler(fail_writing, *CODEC),
        "Up": grpc.stream_unary_rpc_method_handler(fail_collecting, *CODEC),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", handlers),))
    server.add_insecure_port(f"unix:{folder}/s")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"unix:{folder}/s", limits.CHANNEL) as opened:
            yield opened
    finally:
        await server.stop(None)


def encode(message: BytesMessage) -> bytes:
    return message.SerializeToString()


async def unary(opened: grpc.aio.Channel, data: bytes) -> BytesMessage:
    call: Any = opened.unary_unary("/t.T/Unary", encode, BytesMessage.FromString)
    with remote_errors():
        answer: BytesMessage = await call(BytesMessage(data=data))
        return answer
    raise AssertionError


async def test_errors_arrive_with_hint_and_a_long_source(tmp_path: Path) -> None:
    async with channel(tmp_path) as opened:
        with pytest.raises(UserError, match="wrong") as caught:
            await unary(opened, b"user")
    assert caught.value.hint == "better"
    assert caught.value.sources == (EXCERPT,)


async def test_bugs_and_cancellation_have_clean_statuses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with channel(tmp_path) as opened:
        with pytest.raises(RemoteError, match=r"^division by zero$"):
            await unary(opened, b"bug")
        with pytest.raises(RemoteError) as caught:
            await unary(opened, b"cancelled")
        assert caught.value.status.code == errors.CANCELLED
        assert (await unary(opened, b"fine")).data == b"fine"
    assert "ZeroDivisionError" in caplog.text


async def test_streams_fail_after_what_they_sent(tmp_path: Path) -> None:
    async with channel(tmp_path) as opened:
        down: Any = opened.unary_stream("/t.T/Down", encode, BytesMessage.FromString)
        both: Any = opened.stream_stream("/t.T/Both", encode, BytesMessage.FromString)
        for call in (down(BytesMessage()), both([BytesMessage(data=b"first")])):
            seen: list[bytes] = []
            with pytest.raises(NotFoundError, match="no more"), remote_errors():
                async for answer in call:
                    seen.append(answer.data)
            assert seen == [b"first"]
        up: Any = opened.stream_unary("/t.T/Up", encode, BytesMessage.FromString)
        with pytest.raises(NotFoundError, match="none of 3"), remote_errors():
            await up([BytesMessage(data=b"abc")])


async def test_big_messages_pass_up_to_the_limit(tmp_path: Path) -> None:
    async with channel(tmp_path) as opened:
        data = bytes(limits.MESSAGE_BYTES - 100)
        assert (await unary(opened, data)).data == data
        with pytest.raises(ToranaError) as caught:
            await unary(opened, bytes(limits.MESSAGE_BYTES + 1))
        assert isinstance(caught.value, RemoteError)
        assert caught.value.status.code == errors.RESOURCE_EXHAUSTED
