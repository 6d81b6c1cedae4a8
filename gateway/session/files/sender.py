"""The sending end of the file protocol.

Spec: fsutil's `Send`; docs/design/session.md.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, Protocol

from torana.core.errors import ToranaError
from torana.core.pool import run_blocking, tasks_together
from torana.gateway.protocol import filemode, limits
from torana.gateway.protocol.files_pb2 import Packet, Stat
from torana.gateway.session.files.order import ProtocolError
from torana.gateway.session.files.packets import PacketStream
from torana.gateway.session.transport import Stream

OnBytes = Callable[[int], None]
"""Called with the number of bytes of content that have just been sent or received."""

_BATCH: Final = 256  # entries listed per visit to the pool of threads
_AT_ONCE: Final = 4  # files, as BuildKit


class SentTree(Protocol):
    """What a tree to send must give; `FolderTree` is one. Its methods block."""

    def entries(self) -> Iterator[Stat]: ...

    def open(self, path: bytes) -> int | None: ...


async def send_tree(stream: Stream, tree: SentTree, on_bytes: OnBytes | None = None) -> None:
    """Send a tree; returns when the receiver has all that it wanted.

    Does not end the stream.

    Raises:
        TransferError: the receiver gave up.
        ProtocolError: the receiver broke a rule.
        OSError: something could not be read; the receiver has been told.
    """
    packets = PacketStream(stream, "receiver")
    sender = _Sender(packets, tree, on_bytes or (lambda size: None))
    try:
        async with tasks_together() as group:
            helpers = [group.create_task(sender.list())]
            helpers += [group.create_task(sender.send_files()) for _ in range(_AT_ONCE)]
            await sender.answer()
            for helper in helpers:
                helper.cancel()
    except (OSError, ToranaError) as err:
        await packets.fail(err)
        raise
    finally:
        sender.close()
    await packets.finish()


class _Sender:
    def __init__(self, packets: PacketStream, tree: SentTree, on_bytes: OnBytes) -> None:
        self._packets = packets
        self._tree = tree
        self._on_bytes = on_bytes
        self._files: dict[int, bytes] = {}  # may be asked for, once
        self._asked: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
        self._open: set[int] = set()

    def close(self) -> None:
        for fd in self._open:
            os.close(fd)
        self._open.clear()

    async def list(self) -> None:
        entries = self._tree.entries()
        number = 0
        while batch := await run_blocking(lambda: list(islice(entries, _BATCH))):
            for stat in batch:
                if not stat.mode & filemode.TYPE:
                    self._files[number] = stat.path
                number += 1
                await self._packets.stat(stat)
        await self._packets.stat(None)

    async def answer(self) -> None:
        """Take requests until the receiver has finished."""
        while (packet := await self._packets.receive()) is not None:
            match packet.type:
                case Packet.PACKET_REQ:
                    path = self._files.pop(packet.ID, None)
                    if path is None:
                        raise ProtocolError(f"invalid file id {packet.ID}")
                    self._asked.put_nowait((packet.ID, path))
                case Packet.PACKET_FIN:
                    return
                case _:
                    raise ProtocolError("unexpected packet from receiver")
        raise ProtocolError("receiver ended the transfer before it was complete")

    async def send_files(self) -> None:
        while True:
            number, path = await self._asked.get()
            fd, data = await run_blocking(self._first_piece, path)
            while data:
                await self._packets.data(number, data)
                self._on_bytes(len(data))
                data = b"" if fd is None else await run_blocking(os.read, fd, limits.PIECE_BYTES)
            if fd is not None:
                self._close(fd)
            await self._packets.data(number, b"")

    def _first_piece(self, path: bytes) -> tuple[int | None, bytes]:
        """Give the first piece of a file, and its descriptor if there is more."""
        fd = self._tree.open(path)
        if fd is None:
            return None, b""
        self._open.add(fd)  # here, for the result is lost when the caller is cancelled
        data = os.read(fd, limits.PIECE_BYTES)
        if len(data) == limits.PIECE_BYTES:
            return fd, data
        self._close(fd)
        return None, data

    def _close(self, fd: int) -> None:
        self._open.discard(fd)
        os.close(fd)
