"""`FileSend`: what exports write on the client, as one file or as a folder.

Spec: `moby.filesync.v1.FileSend`; the method is declared with `BytesMessage`, folders use the file
protocol on it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import BinaryIO, Final

from torana.core.errors import ConflictError, NotFoundError, UnsupportedError
from torana.core.pool import run_blocking
from torana.core.records import dataclass
from torana.gateway.session.bytestreams import pieces, send_piece
from torana.gateway.session.files.receiver import ReceiveOptions, receive_tree
from torana.gateway.session.files.sender import OnBytes, SentTree, send_tree
from torana.gateway.session.files.writer import WriteOptions
from torana.gateway.session.local import not_offered
from torana.gateway.session.transport import (
    Handler,
    Metadata,
    Session,
    Stream,
    Streaming,
    value,
)

DIFF_COPY: Final = "/moby.filesync.v1.FileSend/DiffCopy"
_EXPORTER: Final = "buildkit-attachable-exporter-id"
_MULTI_PLATFORM: Final = "buildkit-exporter-multi-platform"
_ANSWER: Final = "exporter-md-"
_WRITE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class FolderTarget:
    """A folder that an export is merged into, or, with `deletes`, made equal to."""

    path: Path
    deletes: bool = False


@dataclass(frozen=True, slots=True)
class FileTarget:
    """A file; `open` takes the exporter's answer and gives None where the file is not wanted.

    The file appears when its context is left normally, and not at all otherwise.
    """

    open: Callable[[Mapping[str, str]], AbstractContextManager[BinaryIO] | None]


Target = FolderTarget | FileTarget


class FileSend:
    """The client's end: `targets` by the number of the export, from 0."""

    def __init__(self, targets: Mapping[int, Target], on_bytes: OnBytes | None = None) -> None:
        self._targets = targets
        self._on_bytes = on_bytes

    def methods(self) -> Mapping[str, Handler]:
        return {DIFF_COPY: Streaming(self._receive)}

    async def _receive(self, stream: Stream, metadata: Metadata) -> None:
        text = value(metadata, _EXPORTER)
        number = int(text) if text.isascii() and text.isdigit() else 0
        match self._targets.get(number):
            case None:
                raise NotFoundError(f"exporter {number} not found")
            case FolderTarget() as folder:
                await self._receive_folder(stream, folder, metadata)
            case FileTarget() as file:
                answer = {
                    key.removeprefix(_ANSWER): text
                    for key, text in metadata
                    if key.startswith(_ANSWER)
                }
                await self._receive_file(stream, file, answer)

    async def _receive_folder(
        self, stream: Stream, target: FolderTarget, metadata: Metadata
    ) -> None:
        if target.deletes and value(metadata, _MULTI_PLATFORM) != "1":
            raise UnsupportedError(
                "mode=delete needs an engine that sends all platforms in one transfer",
                hint="leave out mode=delete, or use a newer BuildKit",
            )
        await run_blocking(lambda: target.path.mkdir(mode=0o700, parents=True, exist_ok=True))
        write = WriteOptions(
            keeps_others=not target.deletes,
            compares=False,
            owner=(os.geteuid(), os.getegid()),
        )
        options = ReceiveOptions(write=write, on_bytes=self._on_bytes)
        await receive_tree(stream, target.path, options, is_caller=False)

    async def _receive_file(
        self, stream: Stream, target: FileTarget, answer: Mapping[str, str]
    ) -> None:
        opened = await run_blocking(target.open, answer)
        if opened is None:
            raise ConflictError("target already exists")
        with opened as file:
            pending = bytearray()
            async for data in pieces(stream):
                pending += data  # BuildKit sends 4 KiB at a time
                if self._on_bytes is not None:
                    self._on_bytes(len(data))
                if len(pending) >= _WRITE_BYTES:
                    await run_blocking(file.write, pending)
                    pending = bytearray()
            await run_blocking(file.write, pending)


async def send_folder(
    session: Session,
    exporter: int,
    tree: SentTree,
    *,
    has_all_platforms: bool = True,
    on_bytes: OnBytes | None = None,
) -> None:
    """Send a tree to the folder of an export; `has_all_platforms`: it is the export's only one.

    Raises:
        MethodNotOfferedError: the client takes no exports.
        ToranaError: the client failed to write it.
    """
    metadata = [(_EXPORTER, str(exporter))]
    if has_all_platforms:
        metadata.append((_MULTI_PLATFORM, "1"))
    async with _opened(session, metadata) as stream:
        await send_tree(stream, tree, on_bytes)
        await stream.end()
        while await stream.receive() is not None:
            pass


class FileSink:
    """A file of the client that is being written."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def write(self, data: bytes) -> None:
        await send_piece(self._stream, data)


@asynccontextmanager
async def send_file(
    session: Session, exporter: int, answer: Mapping[str, str]
) -> AsyncIterator[FileSink]:
    """Write the file of an export; it is whole at the client when the block is left normally.

    `answer` is what the exporter will answer: clients may choose a file name by it.

    Raises:
        MethodNotOfferedError: the client takes no exports.
        ConflictError: the client does not want the file.
        ToranaError: the client failed to write it.
    """
    metadata = [(_EXPORTER, str(exporter))]
    metadata += [(f"{_ANSWER}{key.lower()}", text) for key, text in answer.items() if _fits(text)]
    async with _opened(session, metadata) as stream:
        yield FileSink(stream)
        await stream.end()
        while await stream.receive() is not None:
            pass


@asynccontextmanager
async def _opened(session: Session, metadata: Metadata) -> AsyncIterator[Stream]:
    if not session.supports(DIFF_COPY):
        raise not_offered("/moby.filesync.v1.FileSend/diffcopy")
    async with session.stream(DIFF_COPY, metadata) as stream:
        yield stream


def _fits(text: str) -> bool:
    return text.isascii() and (text.isprintable() or not text)
