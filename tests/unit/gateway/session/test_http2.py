"""The engine's HTTP/2 against a peer that the test plays, frame by frame."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from torana.gateway.protocol.errors import CANCELLED, INTERNAL, RESOURCE_EXHAUSTED
from torana.gateway.session import frames as f
from torana.gateway.session.frames import Frame, FrameError, FrameReader, Kind, Setting, frame
from torana.gateway.session.http2 import Http2Client
from torana.gateway.session.http2call import CallError, ConnectionEndedError

SETTINGS = f.settings({})
OK = [("grpc-status", "0")]


class Peer:
    """The bytes between a client and the test."""

    def __init__(self) -> None:
        self.client = Http2Client(self)
        self._to_client: asyncio.Queue[bytes] = asyncio.Queue()
        self._reader = FrameReader()
        self._sent = bytearray()
        self._encoder = Encoder()
        self._decoder = Decoder()

    async def read(self) -> bytes:
        return await self._to_client.get()

    async def write(self, data: bytes) -> None:
        self._sent += data

    async def end(self) -> None:
        pass

    def give(self, *frames: bytes) -> None:
        self._to_client.put_nowait(b"".join(frames))

    def hang_up(self) -> None:
        self._to_client.put_nowait(b"")

    async def frames(self) -> list[Frame]:
        """Give what the client has sent since."""
        for _ in range(10):
            await asyncio.sleep(0)
        data = bytes(self._sent.removeprefix(f.PREFACE))
        self._sent.clear()
        return self._reader.feed(data)

    def headers(self, *pairs: tuple[str, str], is_end: bool = False) -> bytes:
        flags = f.END_HEADERS | (f.END_STREAM if is_end else 0)
        return frame(Kind.HEADERS, flags, 1, self._encoder.encode(pairs))


@asynccontextmanager
async def connected() -> AsyncIterator[Peer]:
    peer = Peer()
    running = asyncio.ensure_future(peer.client.run())
    peer.give(SETTINGS)
    try:
        yield peer
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError, FrameError):
            await running


def message(data: bytes) -> bytes:
    return b"\0" + len(data).to_bytes(4, "big") + data


def data(content: bytes, flags: int = 0) -> bytes:
    return frame(Kind.DATA, flags, 1, content)


async def test_a_call_and_its_answer_in_any_pieces() -> None:
    async with connected() as peer:
        call = await peer.client.open("/a.B/C", [("k", "v")])
        await call.send(b"question")
        await call.end()
        sent = [e for e in await peer.frames() if e.stream]
        assert [each.kind for each in sent] == [Kind.HEADERS, Kind.DATA, Kind.DATA]
        headers: Any = peer._decoder.decode(sent[0].payload)
        assert dict(headers)["k"] == "v"
        answer = b"".join(
            (
                peer.headers((":status", "200")),
                data(b"\x02" + message(b"one")[:4] + b"\0\0", f.PADDED),
                data(message(b"one")[4:] + message(b"") + message(b"three")),
                peer.headers(*OK, is_end=True),
                frame(Kind.RST_STREAM, 0, 1, bytes(4)),
            )
        )
        for number in range(len(answer)):
            peer.give(answer[number : number + 1])
        assert [await call.receive() for _ in range(4)] == [b"one", b"", b"three", None]
        assert await call.receive() is None
        call.close()


async def test_how_calls_end() -> None:
    for ending, code in (
        ([("grpc-status", "5"), ("grpc-message", "no%20such")], 5),
        ([("grpc-status", "x")], 2),
        ([(":status", "404")], 12),
    ):
        async with connected() as peer:
            call = await peer.client.open("/a.B/C", [])
            peer.give(peer.headers(*ending, is_end=True))
            with pytest.raises(CallError) as failure:
                await call.receive()
            assert failure.value.status.code == code
            with pytest.raises(CallError):
                await call.send(b"more")
    async with connected() as peer:
        call = await peer.client.open("/a.B/C", [])
        peer.give(frame(Kind.RST_STREAM, 0, 1, f.CANCEL.to_bytes(4, "big")))
        with pytest.raises(CallError) as failure:
            await call.receive()
        assert failure.value.status.code == CANCELLED


async def test_lost_connections_end_all_calls() -> None:
    async with connected() as peer:
        call = await peer.client.open("/a.B/C", [])
        peer.hang_up()
        with pytest.raises(ConnectionEndedError):
            await call.receive()
        with pytest.raises(ConnectionEndedError):
            await call.send(b"x")
        with pytest.raises(ConnectionEndedError):
            await peer.client.open("/a.B/C", [])


async def test_nothing_is_sent_beyond_the_windows() -> None:
    async with connected() as peer:
        call = await peer.client.open("/a.B/C", [])
        sending = asyncio.ensure_future(call.send(bytes(100_000)))
        sent = [each for each in await peer.frames() if each.kind == Kind.DATA]
        assert sum(len(each.payload) for each in sent) == f.WINDOW
        assert max(len(each.payload) for each in sent) <= f.FRAME_BYTES
        more = (100_000).to_bytes(4, "big")
        peer.give(frame(Kind.WINDOW_UPDATE, 0, 0, more))
        assert [each for each in await peer.frames() if each.kind == Kind.DATA] == []
        peer.give(f.settings({Setting.INITIAL_WINDOW_SIZE: 200_000}))
        await sending
        sent = [each for each in await peer.frames() if each.kind == Kind.DATA]
        assert sum(len(each.payload) for each in sent) == 100_005 - f.WINDOW


async def test_windows_are_given_back_as_messages_are_taken() -> None:
    async with connected() as peer:
        call = await peer.client.open("/a.B/C", [])
        piece = message(bytes(16_000))
        peer.give(*[data(piece) for _ in range(200)])
        first = await peer.frames()
        assert not [e for e in first if e.kind == Kind.WINDOW_UPDATE and e.stream == 1]
        for _ in range(200):
            assert len(await call.receive() or b"") == 16_000
        given = [e for e in await peer.frames() if e.kind == Kind.WINDOW_UPDATE and e.stream]
        assert sum(int.from_bytes(e.payload, "big") for e in given) >= 2 << 20


@pytest.mark.parametrize(
    "frames",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        frame(Kind.PUSH_PROMISE, 0, 1, bytes(4)),
        frame(Kind.DATA, 0, 2, b"x"),
        frame(Kind.DATA, 0, 99, b"x"),
        frame(Kind.DATA, f.PADDED, 1, b"\xffx"),
        frame(Kind.HEADERS, f.END_HEADERS, 1, b"\xff\xff\xff\xff\xff"),
        frame(Kind.HEADERS, 0, 1, b"") + frame(Kind.DATA, 0, 1, b"x"),
        frame(Kind.CONTINUATION, 0, 1, b""),
        frame(Kind.PING, 0, 0, b"x"),
        frame(Kind.SETTINGS, 0, 0, b"x"),
        frame(Kind.WINDOW_UPDATE, 0, 0, bytes(4)),
        frame(Kind.WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff"),
        frame(Kind.GOAWAY, 0, 0, b""),
    ],
)
async def test_broken_rules_end_the_connection(frames: bytes) -> None:
    peer = Peer()
    running = asyncio.ensure_future(peer.client.run())
    call = await peer.client.open("/a.B/C", [])
    peer.give(SETTINGS, frames)
    with pytest.raises(FrameError):
        await running
    with pytest.raises(ConnectionEndedError):
        await call.receive()


async def test_messages_that_are_refused() -> None:
    for content, code in (
        (b"\1\0\0\0\1x", INTERNAL),
        (b"\0\xff\0\0\0", RESOURCE_EXHAUSTED),
    ):
        async with connected() as peer:
            call = await peer.client.open("/a.B/C", [])
            peer.give(data(content))
            with pytest.raises(CallError) as failure:
                await call.receive()
            assert failure.value.status.code == code


@given(
    st.lists(
        st.tuples(
            st.integers(0, 12),
            st.integers(0, 255),
            st.sampled_from((0, 1, 2, 3)),
            st.binary(max_size=40),
        ),
        max_size=20,
    )
)
def test_any_frames_are_taken_or_refused(given_frames: list[tuple[int, int, int, bytes]]) -> None:
    async def take() -> None:
        peer = Peer()
        running = asyncio.ensure_future(peer.client.run())
        call = await peer.client.open("/a.B/C", [])
        made = (
            len(payload).to_bytes(3, "big")
            + bytes((kind, flags))
            + stream.to_bytes(4, "big")
            + payload
            for kind, flags, stream, payload in given_frames
        )
        peer.give(SETTINGS, *made)
        peer.hang_up()
        with suppress(FrameError):
            await running
        with suppress(CallError, ConnectionEndedError):
            while await call.receive() is not None:
                pass
        call.close()

    asyncio.run(take())
