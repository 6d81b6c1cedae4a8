"""Streams of `BytesMessage`, the message with one field `data` that several services share."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from torana.gateway.protocol import limits
from torana.gateway.protocol.filesync_pb2 import BytesMessage
from torana.gateway.session.transport import Stream, decode


async def pieces(stream: Stream) -> AsyncGenerator[bytes, None]:
    """Give the data of a stream up to its end."""
    while (message := await stream.receive()) is not None:
        data = decode(BytesMessage, message, "a stream of bytes").data
        if data:
            yield data


async def send_piece(stream: Stream, data: bytes) -> None:
    """Send data, in messages that every peer takes."""
    for start in range(0, len(data), limits.PIECE_BYTES):
        message = BytesMessage(data=data[start : start + limits.PIECE_BYTES])
        await stream.send(message.SerializeToString())
