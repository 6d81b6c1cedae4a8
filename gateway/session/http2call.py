"""`Call`: one gRPC call over HTTP/2, its messages and windows. Spec: gRPC over HTTP2."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol

from torana.gateway.protocol import limits
from torana.gateway.protocol.errors import INTERNAL, RESOURCE_EXHAUSTED, UNKNOWN
from torana.gateway.protocol.status_pb2 import Status
from torana.gateway.session import frames as f
from torana.gateway.session.frames import FrameError, Kind, frame

STREAM_WINDOW: Final = 4 << 20
_PREFIX_BYTES: Final = 5  # of a message: whether it is compressed, and its size


class Connection(Protocol):
    """What a call needs of its connection."""

    async def send_data(self, call: Call, data: bytes) -> None: ...
    def put(self, data: bytes) -> None: ...
    def reset(self, call: Call) -> None: ...
    def forget(self, call: Call) -> None: ...


class CallError(Exception):
    """A call that ended with something else than success."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message)
        self.status = status


class ConnectionEndedError(Exception):
    """The connection is gone."""


class Call:
    """One call; made by `Http2Client.open`, and left to `close`."""

    def __init__(self, connection: Connection, number: int, send_window: int) -> None:
        self.number = number
        self.send_window = send_window
        self.receive_window = STREAM_WINDOW
        self.has_sent_all = False
        self.status: Status | None = None  # when it is over
        self.is_lost = False
        self._connection = connection
        self._messages: deque[bytes] = deque()
        self._queued_bytes = 0
        self._partial = bytearray()
        self._changed = asyncio.Event()
        self._sending = asyncio.Lock()

    async def send(self, message: bytes) -> None:
        """Send a message.

        Raises:
            CallError: the call is over.
            ConnectionEndedError: so is everything.
        """
        data = b"\0" + len(message).to_bytes(4, "big") + message
        async with self._sending:
            await self._connection.send_data(self, data)

    async def end(self) -> None:
        """Say that there are no more messages."""
        async with self._sending:
            if not self.has_sent_all and self.status is None and not self.is_lost:
                self.has_sent_all = True
                self._connection.put(frame(Kind.DATA, f.END_STREAM, self.number))

    async def receive(self) -> bytes | None:
        """Give the next message, None after the last one.

        Raises:
            CallError: the call failed.
            ConnectionEndedError: the connection did.
        """
        while not self._messages:
            if self.status is not None or self.is_lost:
                self._ended()
                return None
            self._changed.clear()
            await self._changed.wait()
        message = self._messages.popleft()
        self._queued_bytes -= len(message)
        self._give_back()
        return message

    def check(self) -> None:
        """See that the call can still send.

        Raises:
            CallError, ConnectionEndedError: it cannot.
        """
        if self.is_lost or (self.status is not None and self.status.code):
            self._ended()
        if self.status is not None or self.has_sent_all:
            raise CallError(Status(code=UNKNOWN, message="the call is over"))

    def close(self) -> None:
        """Forget it; cancels what is not over."""
        self._connection.forget(self)

    # From the connection

    def take(self, data: bytes) -> None:
        """Take content.

        Raises:
            FrameError: more than was allowed.
        """
        self.receive_window -= len(data)
        if self.receive_window < 0:
            raise FrameError("peer sends more than it may")
        self._partial += data
        position = 0
        while len(self._partial) - position >= _PREFIX_BYTES:
            start = position + _PREFIX_BYTES
            size = int.from_bytes(self._partial[position + 1 : start], "big")
            if self._partial[position]:
                self.fail(INTERNAL, "compressed messages are not taken")
                return
            if size > limits.MESSAGE_BYTES:
                text = f"received message larger than max ({size} vs. {limits.MESSAGE_BYTES})"
                self.fail(RESOURCE_EXHAUSTED, text)
                return
            if len(self._partial) < start + size:
                break
            self._messages.append(bytes(self._partial[start : start + size]))
            self._queued_bytes += size
            position = start + size
        if position:
            del self._partial[:position]
            self._changed.set()
        self._give_back()

    def fail(self, code: int, message: str) -> None:
        """End it here, and at the peer."""
        self._connection.reset(self)
        self.finish(Status(code=code, message=message))

    def finish(self, status: Status) -> None:
        if self.status is None:
            self.status = status
            self._partial.clear()
            self._changed.set()

    def lose(self) -> None:
        self.is_lost = True
        self._changed.set()

    def _give_back(self) -> None:
        """Let the peer send as much as we have room for: not for messages that nobody has taken."""
        room = STREAM_WINDOW - self._queued_bytes - self.receive_window
        if room >= STREAM_WINDOW // 2 and self.status is None:
            self.receive_window += room
            self._connection.put(frame(Kind.WINDOW_UPDATE, 0, self.number, room.to_bytes(4, "big")))

    def _ended(self) -> None:
        if self.status is None:
            raise ConnectionEndedError
        if self.status.code:
            raise CallError(self.status)
