"""`PacketStream`: the packets of a transfer, on a stream of bytes."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from torana.core.errors import ToranaError
from torana.gateway.protocol.files_pb2 import Packet, Stat
from torana.gateway.session.files.order import ProtocolError
from torana.gateway.session.transport import Stream

_MAX_ERROR_BYTES = 8192


class TransferError(ToranaError):
    """The peer gave up a transfer."""

    code = "TRANSFER_FAILED"


class PacketStream:
    """One end of a transfer; `peer` is "sender" or "receiver", for messages."""

    def __init__(self, stream: Stream, peer: str) -> None:
        self._stream = stream
        self._peer = peer

    async def receive(self) -> Packet | None:
        """Give the next packet, None at the end.

        Raises:
            ProtocolError: it is none.
            TransferError: the peer says that it failed.
        """
        data = await self._stream.receive()
        if data is None:
            return None
        try:
            packet = Packet.FromString(data)
        except DecodeError as err:
            raise ProtocolError(f"malformed packet from {self._peer}") from err
        if packet.type == Packet.PACKET_ERR:
            text = packet.data[:_MAX_ERROR_BYTES].decode("utf-8", "backslashreplace")
            raise TransferError(f"error from {self._peer}: {text}")
        return packet

    async def stat(self, stat: Stat | None) -> None:
        """Send an entry, or the end of the list."""
        await self._send(Packet(type=Packet.PACKET_STAT, stat=stat))

    async def data(self, number: int, data: bytes) -> None:
        """Send a piece of a file; an empty one is its end."""
        await self._send(Packet(type=Packet.PACKET_DATA, ID=number, data=data))

    async def request(self, number: int) -> None:
        await self._send(Packet(type=Packet.PACKET_REQ, ID=number))

    async def finish(self) -> None:
        await self._send(Packet(type=Packet.PACKET_FIN))

    async def fail(self, error: BaseException) -> None:
        """Tell the peer, if it still listens."""
        text = getattr(error, "message", "") or str(error) or type(error).__name__
        try:
            await self._send(Packet(type=Packet.PACKET_ERR, data=text.encode()))
        except ToranaError:
            pass

    async def end(self) -> None:
        await self._stream.end()

    async def drain(self) -> None:
        """Read on to the end of the stream."""
        while await self._stream.receive() is not None:
            pass

    async def _send(self, packet: Packet) -> None:
        await self._stream.send(packet.SerializeToString())
