"""Frames of HTTP/2: bytes to frames and back.

Spec: RFC 9113, sections 4 and 6.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Final

from torana.core.errors import ToranaError
from torana.core.records import dataclass

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_BYTES: Final = 16384  # what everybody takes unless told otherwise; we take no more, either
MAX_WINDOW: Final = 2**31 - 1
WINDOW: Final = 65535  # of a connection, and of a stream unless settings say otherwise

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
HAS_PRIORITY: Final = 0x20

NO_ERROR: Final = 0
REFUSED_STREAM: Final = 7
CANCEL: Final = 8

_HEAD_BYTES: Final = 9


class FrameError(ToranaError):
    """A peer does not speak HTTP/2 as it should."""

    code = "HTTP2_PROTOCOL"


class Kind(IntEnum):
    """Types of frames; others are passed over."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Setting(IntEnum):
    """Settings that mean something here."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame; `kind` is a number, since not all are known."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    def unpadded(self) -> bytes:
        """Give the payload of DATA or HEADERS without padding and priority.

        Raises:
            FrameError: there is more padding than payload.
        """
        start, end = 0, len(self.payload)
        if self.flags & PADDED:
            start, end = 1, end - (self.payload[0] if self.payload else 256)
        if self.kind == Kind.HEADERS and self.flags & HAS_PRIORITY:
            start += 5
        if start > end:
            raise FrameError("frame has more padding than content")
        return self.payload[start:end]


def frame(kind: Kind, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Give the bytes of a frame."""
    head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
    return head + payload


def settings(values: dict[Setting, int]) -> bytes:
    """Give the frame that tells our settings."""
    payload = b"".join(k.to_bytes(2, "big") + v.to_bytes(4, "big") for k, v in values.items())
    return frame(Kind.SETTINGS, 0, 0, payload)


def read_settings(payload: bytes) -> Iterator[tuple[int, int]]:
    """Give a peer's settings by number.

    Raises:
        FrameError: it is cut short.
    """
    if len(payload) % 6:
        raise FrameError("settings are cut short")
    for start in range(0, len(payload), 6):
        number = int.from_bytes(payload[start : start + 2], "big")
        yield number, int.from_bytes(payload[start + 2 : start + 6], "big")


class FrameReader:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, more: bytes) -> list[Frame]:
        """Take bytes, and give the frames that are complete now.

        Raises:
            FrameError: a frame is larger than we take.
        """
        data = self._data
        data += more
        frames, position, size = [], 0, len(data)
        while size - position >= _HEAD_BYTES:
            length = data[position] << 16 | data[position + 1] << 8 | data[position + 2]
            if length > FRAME_BYTES:
                raise FrameError(f"frame of {length} bytes is too large")
            end = position + _HEAD_BYTES + length
            if end > size:
                break
            stream = int.from_bytes(data[position + 5 : position + 9], "big") & MAX_WINDOW
            payload = bytes(data[position + _HEAD_BYTES : end])
            frames.append(Frame(data[position + 3], data[position + 4], stream, payload))
            position = end
        del data[:position]
        return frames
