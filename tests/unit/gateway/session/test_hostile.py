"""Peers that break the rules of the tunnel itself: each fails alone, and nothing is left of it."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from tests.unit.gateway.session.files.trees import Resources, make_tree
from tests.unit.gateway.session.tunnels import engine, tunnelled

from torana.core.errors import ToranaError, UserError
from torana.gateway.protocol import errors, limits
from torana.gateway.protocol.control_pb2 import BytesMessage
from torana.gateway.protocol.errors import RemoteError, status_of
from torana.gateway.session.client import attach_control, session_metadata
from torana.gateway.session.files.receiver import ReceiveOptions
from torana.gateway.session.files.writer import WriteOptions
from torana.gateway.session.filesync import FileSync, FolderRequest, receive_folder
from torana.gateway.session.health import CUSTOM_TIMEOUT
from torana.gateway.session.secrets import SessionSecrets
from torana.gateway.session.transport import (
    Handler,
    Metadata,
    Session,
    SessionLostError,
    Stream,
    Streaming,
    Unary,
)

OPTIONS = ReceiveOptions(write=WriteOptions(owner=(os.geteuid(), os.getegid())))
FRAMES = {
    "text": b"GET / HTTP/1.1\r\n\r\n",
    "zeros": bytes(1000),
    "settings cut short": b"\0\0\x0c\4\0\0\0\0\0\0\3",
    "frame of 16 MiB announced": b"\xff\xff\xff\0\0\0\0\0\1" + b"x" * 100,
    "data for no stream": b"\0\0\0\4\0\0\0\0\0" + b"\0\0\5\0\1\0\0\0\x63hello",
    "goaway": b"\0\0\0\4\0\0\0\0\0" + b"\0\0\x08\7\0\0\0\0\0" + bytes(8),
    "endless pings": b"\0\0\0\4\0\0\0\0\0" + (b"\0\0\x08\6\0\0\0\0\0" + bytes(8)) * 10_000,
}


@asynccontextmanager
async def raw_session(
    channel: grpc.aio.Channel, id: str, *more: tuple[str, str]
) -> AsyncIterator[Any]:
    """Open a session whose bytes are the test's."""
    opened: Any = channel.stream_stream(
        "/moby.buildkit.v1.Control/Session",
        request_serializer=BytesMessage.SerializeToString,
        response_deserializer=BytesMessage.FromString,
    )
    call = opened(metadata=(*session_metadata(id, "", [FileSync({})]), *more))
    try:
        yield call
    finally:
        call.cancel()


@pytest.mark.parametrize("frames", FRAMES.values(), ids=FRAMES.keys())
async def test_broken_frames_fail_that_session_alone(tmp_path: Path, frames: bytes) -> None:
    (tmp_path / "target").mkdir()
    async with engine(tmp_path) as (manager, channel):
        async with raw_session(channel, "bad") as call:
            session = await manager.get("bad")
            await call.write(BytesMessage(data=frames))
            await call.done_writing()
            with pytest.raises(ToranaError):
                async with asyncio.timeout(10):
                    request = FolderRequest(name="context")
                    await receive_folder(session, request, tmp_path / "target", OPTIONS)
        async with attach_control(channel, [FileSync({"context": tmp_path / "target"})], id="good"):
            good = await manager.get("good")
            request = FolderRequest(name="context")
            (tmp_path / "copy").mkdir()
            await receive_folder(good, request, tmp_path / "copy", OPTIONS)
    assert os.listdir(tmp_path / "target") == []


async def test_a_client_that_never_answers_is_given_up(tmp_path: Path) -> None:
    async with engine(tmp_path) as (manager, channel):
        async with raw_session(channel, "dumb", (CUSTOM_TIMEOUT, "1000")) as call:
            session = await manager.get("dumb")
            with pytest.raises(SessionLostError, match="dumb was lost: health check failed"):
                async with asyncio.timeout(20):
                    await SessionSecrets(manager, ["dumb"]).get("a")
            assert session.is_closed
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                while await call.read() is not grpc.aio.EOF:
                    pass
            assert "health check failed" in str(caught.value.details())


async def test_a_session_needs_an_id(tmp_path: Path) -> None:
    async with engine(tmp_path) as (_, channel):
        async with attach_control(channel, [], id="") as attachment:
            await attachment.lost.wait()
            assert isinstance(attachment.failure, UserError)


class Huge:
    """Answers with more than a message may hold, or with what never ends."""

    def methods(self) -> Mapping[str, Handler]:
        return {
            "/moby.buildkit.secrets.v1.Secrets/GetSecret": Unary(self._secret),
            "/moby.filesync.v1.FileSync/DiffCopy": Streaming(self._endless),
        }

    async def _secret(self, request: bytes, metadata: Metadata) -> bytes:
        return bytes(limits.MESSAGE_BYTES + 1)

    async def _endless(self, stream: Stream, metadata: Metadata) -> None:
        await stream.send(bytes(limits.MESSAGE_BYTES + 1))


async def test_messages_above_the_limit_are_refused(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    async with tunnelled(tmp_path, [Huge()]) as session:
        for _ in range(2):
            with pytest.raises(RemoteError) as caught:
                await session.unary("/moby.buildkit.secrets.v1.Secrets/GetSecret", b"")
            assert status_of(caught.value).code == errors.RESOURCE_EXHAUSTED
        with pytest.raises(ToranaError):
            request = FolderRequest(name="context")
            await receive_folder(session, request, tmp_path / "target", OPTIONS)


async def test_a_connection_lost_in_the_middle_of_a_transfer_frees_all(tmp_path: Path) -> None:
    make_tree(tmp_path / "source")
    (tmp_path / "target").mkdir()
    service = FileSync({"context": tmp_path / "source"})

    async def lose(id: str) -> None:
        async with engine(tmp_path) as (manager, channel):
            async with attach_control(channel, [service], id=id):
                session: Session = await manager.get(id)
                closing: list[asyncio.Task[None]] = []

                def close(size: int) -> None:
                    if not closing:
                        closing.append(asyncio.ensure_future(channel.close()))

                options = ReceiveOptions(write=OPTIONS.write, on_bytes=close)
                with pytest.raises(SessionLostError):
                    request = FolderRequest(name="context")
                    await receive_folder(session, request, tmp_path / "target", options)
                await asyncio.wait(closing)

    await lose("first")  # grpcio keeps some things for ever
    gc.collect()
    before = Resources.now()
    await lose("second")
    gc.collect()
    assert [leak for leak in before.leaked() if "eventfd" not in str(leak)] == []
    assert not [name for name in os.listdir(tmp_path / "target") if name.startswith(".torana-")]


class Silent:
    """A service that takes what it is sent and answers nothing."""

    def methods(self) -> Mapping[str, Handler]:
        return {"/test.Silent/Listen": Streaming(self.listen)}

    async def listen(self, stream: Stream, metadata: Metadata) -> None:
        while await stream.receive() is not None:
            pass


@pytest.mark.parametrize("is_sending", [True, False], ids=["sending", "receiving"])
async def test_calls_of_a_channel_that_was_closed_say_that_the_session_is_lost(
    tmp_path: Path, is_sending: bool
) -> None:
    async with (
        engine(tmp_path) as (manager, channel),
        attach_control(channel, [Silent()], id="one"),
    ):
        session = await manager.get("one")
        async with session.stream("/test.Silent/Listen") as stream:
            await stream.send(b"first")
            await channel.close()
            with pytest.raises(SessionLostError, match="client session one was lost"):
                while True:  # what is under way at this end is lost, too
                    await (stream.send(b"more") if is_sending else stream.receive())
