"""The receiving end of the file protocol.

One task reads packets, one thread at a time puts what has come on disk, a batch per visit; a batch
is bounded by number and bytes, so that a fast peer waits for the disk.

Spec: fsutil's `Receive`; docs/design/session.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from torana.core.errors import ToranaError
from torana.core.pool import run_blocking, tasks_together
from torana.core.records import dataclass
from torana.gateway.protocol import filemode
from torana.gateway.protocol.files_pb2 import Packet, Stat
from torana.gateway.session.files.order import OrderChecker, ProtocolError
from torana.gateway.session.files.packets import PacketStream
from torana.gateway.session.files.sender import OnBytes
from torana.gateway.session.files.writer import SYNC, TreeWriter, WriteOptions
from torana.gateway.session.transport import Stream

METADATA_FILE: Final = b".fsutil-metadata"
WantsContent = Callable[[str], bool]

_MAX_BATCH: Final = 1024
_MAX_BATCH_BYTES: Final = 8 << 20
_MAX_METADATA_BYTES: Final = 256 << 20
_MAX_ENTRIES: Final = 2**32 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveOptions:
    """How a transfer is taken.

    With `metadata_only` no content is asked for but of the paths that it accepts, and the list of
    entries is written to `.fsutil-metadata`.
    """

    write: WriteOptions = SYNC
    metadata_only: WantsContent | None = None
    on_bytes: OnBytes | None = None


async def receive_tree(
    stream: Stream, folder: Path, options: ReceiveOptions, *, is_caller: bool
) -> None:
    """Receive a tree into an existing folder; returns when it is there.

    `is_caller`: this end opened the stream, and so waits for the peer's status at the end.

    Raises:
        ProtocolError: the sender broke a rule; nothing was done that it asked for from there on.
        TransferError: the sender gave up.
        OSError: something could not be written; the sender has been told.
    """
    packets = PacketStream(stream, "sender")
    writer = TreeWriter(folder, options.write)
    try:
        await run_blocking(writer.open)
        receiver = _Receiver(packets, writer, options)
        async with tasks_together() as group:
            reading = group.create_task(receiver.read())
            await receiver.write()
            await packets.finish()
            await reading
    except (OSError, ToranaError) as err:
        await packets.fail(err)
        raise
    finally:
        await run_blocking(writer.close)
    await packets.end()
    if is_caller:
        await packets.drain()


class _Receiver:
    def __init__(self, packets: PacketStream, writer: TreeWriter, options: ReceiveOptions) -> None:
        self._packets = packets
        self._writer = writer
        self._on_bytes = options.on_bytes or (lambda size: None)
        self._order = OrderChecker()
        self._metadata = None if options.metadata_only is None else _Metadata(options.metadata_only)
        self._count = 0
        self._is_listed = False
        self._is_finished = False
        # Work for the disk: packets with the numbers of their files, and the end of the list.
        self._pending: list[tuple[int, Packet]] = []
        self._pending_bytes = 0
        self._changed = asyncio.Event()

    async def read(self) -> None:
        """Read packets up to the sender's FIN."""
        while (packet := await self._packets.receive()) is not None:
            match packet.type:
                case Packet.PACKET_STAT:
                    self._take_entry(packet)
                case Packet.PACKET_DATA:
                    self._on_bytes(len(packet.data))
                    self._put(packet.ID, packet)
                case Packet.PACKET_FIN:
                    if not self._is_finished:
                        raise ProtocolError("sender ended the transfer before it was complete")
                    return
                case _:
                    raise ProtocolError("unexpected packet from sender")
            while len(self._pending) > _MAX_BATCH or self._pending_bytes > _MAX_BATCH_BYTES:
                await self._change()
        raise ProtocolError("sender ended the transfer before it was complete")

    async def write(self) -> None:
        """Put on disk what comes, ask for what is wanted, until all is there."""
        while not (self._is_listed and not self._pending and self._writer.is_complete):
            if not self._pending:
                await self._change()
                continue
            batch, self._pending, self._pending_bytes = self._pending, [], 0
            self._changed.set()
            for number in await run_blocking(self._checked_work, batch):
                await self._packets.request(number)
        await run_blocking(self._finish)
        self._is_finished = True

    def _take_entry(self, packet: Packet) -> None:
        if self._is_listed:
            raise ProtocolError("an entry came after the end of the list")
        if not packet.HasField("stat"):
            self._is_listed = True
            self._changed.set()
            return
        if self._count > _MAX_ENTRIES:
            raise ProtocolError("too many entries")
        self._order.check(packet.stat)
        if self._metadata is None or packet.stat.path != METADATA_FILE:
            self._put(self._count, packet)
        self._count += 1  # of all entries: senders count those too that we pass over

    def _put(self, number: int, packet: Packet) -> None:
        self._pending.append((number, packet))
        self._pending_bytes += len(packet.data)
        self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _work(self, batch: Sequence[tuple[int, Packet]]) -> list[int]:
        wanted = []
        for number, packet in batch:
            if packet.type == Packet.PACKET_DATA:
                if packet.data:
                    self._writer.write(number, packet.data)
                else:
                    self._writer.finish_file(number)
            elif self._metadata is None:
                if self._writer.add(number, packet.stat):
                    wanted.append(number)
            else:
                for stat in self._metadata.take(packet.stat):
                    is_last = stat is packet.stat
                    if self._writer.add(number, stat) and is_last:
                        wanted.append(number)
        return wanted

    def _checked_work(self, batch: Sequence[tuple[int, Packet]]) -> list[int]:
        try:
            return self._work(batch)
        except (OverflowError, ValueError) as err:  # a number that the system has no room for
            raise ProtocolError(f"sender gave an impossible value: {err}") from err

    def _finish(self) -> None:
        self._writer.finish()
        if self._metadata is not None:
            self._writer.write_whole(METADATA_FILE, bytes(self._metadata.data))


class _Metadata:
    """The list of entries of a transfer of metadata, and which of them are made all the same."""

    def __init__(self, wants: WantsContent) -> None:
        self._wants = wants
        self._folders: list[Stat] = []  # above the current entry, not made yet
        self.data = bytearray()

    def take(self, stat: Stat) -> list[Stat]:
        """Note an entry; gives what is to be made for it, folders first."""
        encoded = stat.SerializeToString(deterministic=True)
        self.data += len(encoded).to_bytes(4, "little") + encoded
        if len(self.data) > _MAX_METADATA_BYTES:
            raise ProtocolError("the list of entries is too long")
        parent = stat.path.rpartition(b"/")[0]
        self._folders = [f for f in self._folders if (parent + b"/").startswith(f.path + b"/")]
        if self._wants(stat.path.decode("utf-8", "surrogateescape")):
            made = [*self._folders, stat]
            self._folders = []
            return made
        if stat.mode & filemode.TYPE == filemode.DIR:
            self._folders.append(stat)
        return []
