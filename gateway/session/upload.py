"""`Upload`: streams of the client that an engine reads once, such as a context on standard input.

Spec: `moby.upload.v1.Upload`.
"""

from __future__ import annotations

import posixpath
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import BinaryIO, Final

from torana.core.errors import NotFoundError
from torana.core.pool import run_blocking
from torana.gateway.protocol import limits
from torana.gateway.session.bytestreams import pieces, send_piece
from torana.gateway.session.transport import (
    Handler,
    Metadata,
    Session,
    Stream,
    Streaming,
    value,
)

PULL: Final = "/moby.upload.v1.Upload/Pull"
HOST: Final = "buildkit-session"  # of the URLs that stand for uploads
_PATH: Final = "urlpath"


class Uploads:
    """The client's end: readers by id, each read once."""

    def __init__(self) -> None:
        self._readers: dict[str, BinaryIO] = {}

    def add(self, id: str, reader: BinaryIO) -> str:
        """Offer a stream; gives the URL that stands for it in a build."""
        self._readers[id] = reader
        return f"http://{HOST}/{id}"

    def methods(self) -> Mapping[str, Handler]:
        return {PULL: Streaming(self._send)}

    async def _send(self, stream: Stream, metadata: Metadata) -> None:
        id = posixpath.basename(value(metadata, _PATH))
        reader = self._readers.pop(id, None)
        if reader is None:
            raise NotFoundError(f"no http response from session for {id}")
        while data := await run_blocking(reader.read, limits.PIECE_BYTES):
            await send_piece(stream, data)


async def pull(session: Session, path: str) -> AsyncGenerator[bytes, None]:
    """Read the upload at `path`, the path of its URL; close the iterator.

    Raises:
        NotFoundError: there is none, or it was read already.
    """
    metadata = [(_PATH, path), ("urlhost", HOST)]
    async with session.stream(PULL, metadata) as stream:
        await stream.end()
        async with aclosing(pieces(stream)) as found:
            async for data in found:
                yield data
