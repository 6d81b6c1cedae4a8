"""`Http2Client`: gRPC calls over HTTP/2, on bytes that somebody else carries.

No sockets, no threads.

It is the engine's end of sessions. grpcio could only do it through a socket of its own and with a
hand-over between threads for every message, which cost more than putting small files on disk. Here
a piece of bytes is handled in one go, however many frames are in it, and what is sent in one turn
of the event loop leaves together.

Neither compression nor server push; windows are large, and a stream's is given back as its messages
are taken.

Spec: RFC 9113; gRPC over HTTP2.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from contextlib import suppress
from typing import Any, Final
from urllib.parse import unquote

from hpack import Decoder, Encoder, HPACKError

from torana.gateway.protocol import limits
from torana.gateway.protocol.errors import (
    CANCELLED,
    INTERNAL,
    UNAVAILABLE,
    UNIMPLEMENTED,
    UNKNOWN,
    decode_status,
)
from torana.gateway.protocol.status_pb2 import Status
from torana.gateway.session import frames as f
from torana.gateway.session.frames import Frame, FrameError, Kind, Setting, frame
from torana.gateway.session.http2call import STREAM_WINDOW, Call, ConnectionEndedError
from torana.gateway.session.transport import Metadata
from torana.gateway.session.tunnel import ByteStream

_CONNECTION_WINDOW: Final = 64 << 20
_AHEAD_BYTES: Final = 1 << 20  # that may wait to be sent before senders wait, too
_FLOOD_BYTES: Final = 8 << 20  # that nobody waits for: answers to a peer that reads nothing
_WRITE_BYTES: Final = 1 << 18
_RESET_CODES: Final = {f.REFUSED_STREAM: UNAVAILABLE, f.CANCEL: CANCELLED}
_HTTP_CODES: Final = {"404": UNIMPLEMENTED, "503": UNAVAILABLE, "429": UNAVAILABLE}


class Http2Client:
    """One connection over `stream`, alive while `run` runs."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._reader = f.FrameReader()
        self._encoder = Encoder()
        self._decoder = Decoder(max_header_list_size=limits.METADATA_BYTES)
        self._calls: dict[int, Call] = {}
        self._next = 1
        self._max_calls = MAX_CALLS
        self._is_refusing = False
        self._is_over = False
        self._has_settings = False
        self._send_window = f.WINDOW
        self._call_window = f.WINDOW
        self._receive_window = _CONNECTION_WINDOW
        self._frame_bytes = f.FRAME_BYTES
        self._block: tuple[Frame, bytearray] | None = None  # headers that go on
        self._changed = asyncio.Event()  # windows, settings, number of calls
        self._out = bytearray()
        self._has_output = asyncio.Event()
        self._is_drained = asyncio.Event()
        self._is_drained.set()
        self.put(f.PREFACE)
        ours = {Setting.ENABLE_PUSH: 0, Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW}
        self.put(f.settings(ours))
        more = _CONNECTION_WINDOW - f.WINDOW
        self.put(frame(Kind.WINDOW_UPDATE, 0, 0, more.to_bytes(4, "big")))

    async def run(self) -> None:
        """Carry bytes until the peer has sent its last one.

        Raises:
            FrameError: it broke a rule.
        """
        writing = asyncio.ensure_future(self._write())
        reading = asyncio.ensure_future(self._read())
        try:
            await asyncio.wait([reading, writing], return_when=asyncio.FIRST_COMPLETED)
            for task in (reading, writing):
                if task.done():
                    task.result()
        finally:
            for task in (reading, writing):
                task.cancel()
            self.close()
            await asyncio.wait([reading, writing])
            for task in (reading, writing):
                if not task.cancelled():
                    task.exception()

    def close(self) -> None:
        """End all calls."""
        self._is_over = True
        for call in list(self._calls.values()):
            call.lose()
        self._calls.clear()
        self._notify()
        self._is_drained.set()

    async def open(self, method: str, metadata: Metadata) -> Call:
        """Begin a call.

        Raises:
            ConnectionEndedError: the connection is gone, or takes no more calls.
        """
        while len(self._calls) >= self._max_calls and not self._is_over:
            await self._change()
        if self._is_over or self._is_refusing:
            raise ConnectionEndedError
        call = Call(self, self._next, self._call_window)
        self._next += 2
        self._calls[call.number] = call
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", method),
            (":authority", "localhost"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *metadata,
        ]
        self._put_headers(call.number, self._encoder.encode(headers, huffman=False))
        return call

    async def send_data(self, call: Call, data: bytes) -> None:
        """Send content as the windows allow; see `Call.send`."""
        position = 0
        while position < len(data):
            call.check()
            room = min(self._send_window, call.send_window, self._frame_bytes)
            if room <= 0:
                await self._change()
                continue
            piece = data[position : position + room]
            position += len(piece)
            self._send_window -= len(piece)
            call.send_window -= len(piece)
            self.put(frame(Kind.DATA, 0, call.number, piece))
            if len(self._out) > _AHEAD_BYTES:
                self._is_drained.clear()
                await self._is_drained.wait()

    def put(self, data: bytes) -> None:
        """Have bytes sent soon."""
        self._out += data
        self._has_output.set()

    def reset(self, call: Call) -> None:
        """Give a call up."""
        self.put(frame(Kind.RST_STREAM, 0, call.number, f.CANCEL.to_bytes(4, "big")))

    def forget(self, call: Call) -> None:
        """Take no more notice of a call."""
        if self._calls.pop(call.number, None) is None:
            return
        if call.status is None or not call.has_sent_all:
            self.reset(call)
        self._notify()

    # Bytes

    async def _read(self) -> None:
        while data := await self._stream.read():
            for each in self._reader.feed(data):
                self._take(each)
            if len(self._out) > _FLOOD_BYTES:
                raise FrameError("peer asks for answers and reads none")

    async def _write(self) -> None:
        while True:
            await self._has_output.wait()
            self._has_output.clear()
            while self._out:
                data = bytes(self._out[:_WRITE_BYTES])
                del self._out[:_WRITE_BYTES]
                await self._stream.write(data)
            self._is_drained.set()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _change(self) -> None:
        await self._changed.wait()

    # Frames

    def _take(self, each: Frame) -> None:
        if self._block is not None and each.kind != Kind.CONTINUATION:
            raise FrameError("headers are not continued")
        if not self._has_settings and each.kind != Kind.SETTINGS:
            raise FrameError("peer does not begin with its settings")
        match each.kind:
            case Kind.DATA:
                self._take_data(each)
            case Kind.HEADERS | Kind.CONTINUATION:
                self._take_headers(each)
            case Kind.RST_STREAM:
                self._take_reset(each)
            case Kind.SETTINGS:
                self._take_settings(each)
            case Kind.PING:
                if not each.flags & f.ACK:
                    self.put(frame(Kind.PING, f.ACK, 0, _exactly(each, 8)))
            case Kind.GOAWAY:
                self._take_goaway(each)
            case Kind.WINDOW_UPDATE:
                self._take_window(each)
            case Kind.PUSH_PROMISE:
                raise FrameError("peer pushes, although it was told not to")

    def _call(self, each: Frame) -> Call | None:
        """Give the call of a frame, None for one that is over."""
        if not each.stream % 2 or each.stream >= self._next:
            raise FrameError(f"frame for stream {each.stream}, which nobody has opened")
        return self._calls.get(each.stream)

    def _take_data(self, each: Frame) -> None:
        size = len(each.payload)
        self._receive_window -= size
        if self._receive_window < 0:
            raise FrameError("peer sends more than it may")
        call = self._call(each)
        if self._receive_window <= _CONNECTION_WINDOW // 2:
            # At once: a call that nobody reads must not hold up others; its own window bounds it.
            more = _CONNECTION_WINDOW - self._receive_window
            self._receive_window += more
            self.put(frame(Kind.WINDOW_UPDATE, 0, 0, more.to_bytes(4, "big")))
        if call is None or call.status is not None:
            return
        content = each.unpadded()
        call.receive_window -= size - len(content)
        call.take(content)
        if each.flags & f.END_STREAM:
            call.finish(Status(code=INTERNAL, message="call ended without a status"))

    def _take_headers(self, each: Frame) -> None:
        if each.kind == Kind.HEADERS:
            block = self._block = (each, bytearray(each.unpadded()))
        elif self._block is None or each.stream != self._block[0].stream:
            raise FrameError("headers go on that did not begin")
        else:
            block = self._block
            block[1].extend(each.payload)
        if len(block[1]) > limits.METADATA_BYTES:
            raise FrameError("headers are too long")
        if not each.flags & f.END_HEADERS:
            return
        self._block = None
        first, encoded = block
        try:
            decoded: Any = self._decoder.decode(bytes(encoded))  # text, unless asked for raw
            headers: dict[str, str] = dict(decoded)
        except (HPACKError, UnicodeDecodeError) as err:
            raise FrameError(f"malformed headers: {err}") from err
        call = self._call(first)
        if call is not None and first.flags & f.END_STREAM:
            call.finish(_status(headers))
        elif call is not None and headers.get(":status", "200") != "200":
            code = _HTTP_CODES.get(headers[":status"], UNKNOWN)
            call.fail(code, f"unexpected HTTP status: {headers[':status'][:100]}")

    def _take_reset(self, each: Frame) -> None:
        code = int.from_bytes(_exactly(each, 4), "big")
        call = self._call(each)
        if call is not None:
            call.has_sent_all = True  # nothing can be sent any more
            status = _RESET_CODES.get(code, INTERNAL)
            call.finish(Status(code=status, message=f"stream was reset by the peer: {code}"))
            self._notify()

    def _take_settings(self, each: Frame) -> None:
        if each.flags & f.ACK:
            return
        for number, value in f.read_settings(each.payload):
            match number:
                case Setting.HEADER_TABLE_SIZE:
                    self._encoder.header_table_size = min(value, 4096)
                case Setting.MAX_CONCURRENT_STREAMS:
                    self._max_calls = min(value, MAX_CALLS)
                case Setting.INITIAL_WINDOW_SIZE:
                    if value > f.MAX_WINDOW:
                        raise FrameError("window is too large")
                    for call in self._calls.values():
                        call.send_window += value - self._call_window
                    self._call_window = value
                case Setting.MAX_FRAME_SIZE:
                    if not f.FRAME_BYTES <= value < 1 << 24:
                        raise FrameError("no such size of frames")
                    self._frame_bytes = min(value, _WRITE_BYTES)
        self._has_settings = True
        self.put(frame(Kind.SETTINGS, f.ACK, 0))
        self._notify()

    def _take_goaway(self, each: Frame) -> None:
        if len(each.payload) < 8:
            raise FrameError("goaway is cut short")
        last = int.from_bytes(each.payload[:4], "big") & f.MAX_WINDOW
        self._is_refusing = True
        for call in list(self._calls.values()):
            if call.number > last:
                call.lose()
        self._notify()

    def _take_window(self, each: Frame) -> None:
        more = int.from_bytes(_exactly(each, 4), "big") & f.MAX_WINDOW
        call = self._call(each) if each.stream else None
        if not more:
            raise FrameError("window is made larger by nothing")
        if not each.stream:
            self._send_window += more
        elif call is not None:
            call.send_window += more
        if max(self._send_window, call.send_window if call is not None else 0) > f.MAX_WINDOW:
            raise FrameError("window is too large")
        self._notify()

    def _put_headers(self, number: int, block: bytes) -> None:
        pieces = [block[n : n + f.FRAME_BYTES] for n in range(0, len(block), f.FRAME_BYTES)]
        for index, piece in enumerate(pieces):
            kind = Kind.CONTINUATION if index else Kind.HEADERS
            flags = f.END_HEADERS if index == len(pieces) - 1 else 0
            self.put(frame(kind, flags, number, piece))


MAX_CALLS: Final = 250  # at once, as Go's servers take them


def _exactly(each: Frame, size: int) -> bytes:
    if len(each.payload) != size:
        raise FrameError(f"frame of {len(each.payload)} bytes instead of {size}")
    return each.payload


def _status(headers: dict[str, str]) -> Status:
    """Read how a call ended."""
    text = headers.get("grpc-status")
    if text is None:
        code = _HTTP_CODES.get(headers.get(":status", ""), UNKNOWN)
        return Status(code=code, message="call ended without a status")
    code = int(text) if text.isdecimal() and len(text) < 4 else UNKNOWN
    message = unquote(headers.get("grpc-message", ""), errors="replace")
    details = b""
    with suppress(binascii.Error, ValueError):
        encoded = headers.get("grpc-status-details-bin", "")
        details = base64.b64decode(encoded + "=" * (-len(encoded) % 4))
    return decode_status(details, code, message) if code else Status()
