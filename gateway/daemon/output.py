"""`SessionOutput`: where an export writes when the client is elsewhere.

Exporters write files in threads; the pieces go to a task of the event loop, a few at a time.

Spec: wire reference, session, FileSend and Content.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar, cast

from torana.core.content.store import ContentStore
from torana.core.errors import ConflictError, UnsupportedError
from torana.core.oci.descriptor import Descriptor
from torana.core.pool import run_blocking, tasks_together
from torana.gateway.daemon.senttrees import JoinedTrees, place
from torana.gateway.protocol.limits import PIECE_BYTES
from torana.gateway.session.contents import SessionContents
from torana.gateway.session.filesend import send_file, send_folder
from torana.gateway.session.transport import Session
from torana.plugins.exporter import OutputTree

T = TypeVar("T")

_STORE: Final = "export"
_PIECES_AHEAD: Final = 4


class SessionOutput:
    """The client's end of export number `number`; made on the event loop that it is used with."""

    def __init__(self, session: Session, number: int) -> None:
        self._session = session
        self._number = number
        self._loop = asyncio.get_running_loop()

    @contextmanager
    def file(self, answer: Mapping[str, str] | None = None) -> Iterator[BinaryIO]:
        """Open the client's file. Called in a thread; the client has it all when it is left."""
        sending = _Sender.start(self._session, self._number, answer or {})
        sender = _call(self._loop, sending)
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
            if deletes or len(placed) == 1:
                whole = placed[0] if len(placed) == 1 else JoinedTrees(placed)
                await send_folder(self._session, self._number, whole)
                return
            async with tasks_together() as group:
                for tree in placed:
                    sending = send_folder(
                        self._session, self._number, tree, has_all_platforms=False
                    )
                    group.create_task(sending)

    async def put_blobs(self, blobs: Sequence[Descriptor], content: ContentStore) -> None:
        """Write blobs into the client's store, of which the client makes a layout."""
        store = SessionContents(self._session, _STORE)
        for blob in blobs:
            await store.write(blob.digest, blob.size, pieces(content, blob))


async def pieces(content: ContentStore, blob: Descriptor) -> AsyncIterator[bytes]:
    """Read a blob of the store, piece by piece."""
    with content.open(blob.digest) as file:
        while data := await run_blocking(file.read, PIECE_BYTES):
            yield data


class _Sender:
    """Sends pieces of one file; lives on the loop."""

    def __init__(self) -> None:
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(_PIECES_AHEAD)
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, session: Session, number: int, answer: Mapping[str, str]) -> _Sender:
        sender = cls()
        sender._task = asyncio.create_task(sender._run(session, number, answer))
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

    async def _run(self, session: Session, number: int, answer: Mapping[str, str]) -> None:
        try:
            async with send_file(session, number, answer) as sink:
                while (piece := await self._pieces.get()) is not None:
                    await sink.write(piece)
        except ConflictError:  # the client does not want it: it has it already
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
