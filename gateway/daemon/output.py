"""`SessionOutput`: where an export writes when the client is elsewhere.

Spec: wire reference, session, FileSend.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar, cast

from torana.core.errors import ConflictError, UnsupportedError
from torana.core.pool import run_blocking
from torana.gateway.daemon.senttrees import JoinedTrees, PlacedTree, place
from torana.gateway.protocol.filesync_pb2 import BytesMessage
from torana.gateway.protocol.limits import PIECE_BYTES
from torana.gateway.session.files.sender import SentTree, send_tree
from torana.gateway.session.tasks import task_group
from torana.gateway.session.transport import Metadata, Session
from torana.plugins.exporter import OutputTree

T = TypeVar("T")

DIFF_COPY: Final = "/moby.filesync.v1.FileSend/DiffCopy"
_EXPORTER: Final = "buildkit-attachable-exporter-id"
_ALL_PLATFORMS: Final = "buildkit-exporter-multi-platform"
_PIECES_AHEAD: Final = 4


class SessionOutput:
    """The client's end of export number `number`; made on the event loop that it is used with."""

    def __init__(self, session: Session, number: int) -> None:
        self._session = session
        self._number = number
        self._loop = asyncio.get_running_loop()

    @contextmanager
    def file(self) -> Iterator[BinaryIO]:
        """Open the client's file. Called in a thread; the client has it all when it is left."""
        sender = _call(self._loop, _Sender.start(self._session, self._metadata()))
        try:
            with io.BufferedWriter(_Pipe(self._loop, sender), PIECE_BYTES) as file:
                yield cast("BinaryIO", file)
            _call(self._loop, sender.finish())
        finally:
            _call(self._loop, sender.stop())

    def directory(self) -> Path:
        raise UnsupportedError("folders of a client cannot be written in place")

    async def send_trees(self, trees: Sequence[OutputTree], *, deletes: bool) -> None:
        """Send trees, each in a transfer of its own, or in a single one with `deletes`."""
        with ExitStack() as stack:
            placed = await run_blocking(place, trees, stack)
            if deletes and len(placed) > 1:
                await self._send(JoinedTrees(placed), is_whole=True)
                return
            async with task_group() as group:
                for tree in placed:
                    group.create_task(self._send(tree, is_whole=deletes))

    async def _send(self, tree: PlacedTree | JoinedTrees, *, is_whole: bool) -> None:
        sent: SentTree = tree
        async with self._session.stream(DIFF_COPY, self._metadata(is_whole=is_whole)) as stream:
            await send_tree(stream, sent)
            await stream.end()
            while await stream.receive() is not None:
                pass

    def _metadata(self, *, is_whole: bool = False) -> Metadata:
        if not self._session.supports(DIFF_COPY):
            raise UnsupportedError(f"method {DIFF_COPY.lower()} not supported by the client")
        metadata = [(_EXPORTER, str(self._number))]
        return [*metadata, (_ALL_PLATFORMS, "1")] if is_whole else metadata


class _Sender:
    """Sends pieces of one file; lives on the loop."""

    def __init__(self) -> None:
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(_PIECES_AHEAD)
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, session: Session, metadata: Metadata) -> _Sender:
        sender = cls()
        sender._task = asyncio.create_task(sender._run(session, metadata))
        return sender

    async def put(self, piece: bytes | None) -> None:
        """Hand a piece on, None after the last one; raises what the transfer failed with."""
        assert self._task is not None
        putting = asyncio.ensure_future(self._pieces.put(piece))
        await asyncio.wait([putting, self._task], return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            putting.cancel()
            self._task.result()

    async def finish(self) -> None:
        """Wait until the client has everything."""
        assert self._task is not None
        await self.put(None)
        await self._task

    async def stop(self) -> None:
        """Give up what is not finished."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()

    async def _run(self, session: Session, metadata: Metadata) -> None:
        async with session.stream(DIFF_COPY, metadata) as stream:
            try:
                while (piece := await self._pieces.get()) is not None:
                    await stream.send(BytesMessage(data=piece).SerializeToString())
                await stream.end()
                while await stream.receive() is not None:
                    pass
            except ConflictError:  # the client has it already
                while await self._pieces.get() is not None:
                    pass


class _Pipe(io.RawIOBase):
    """The writing end, for a thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sender: _Sender) -> None:
        self._loop = loop
        self._sender = sender

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(memoryview(data)[:PIECE_BYTES])  # type: ignore[arg-type]  # any buffer
        _call(self._loop, self._sender.put(piece))
        return len(piece)


def _call(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Run `work` on the loop, from a thread, and give its result."""
    return asyncio.run_coroutine_threadsafe(work, loop).result()
