"""Content stores of the client: OCI layouts as build contexts, local caches, exported layouts.

Spec: `containerd.services.content.v1.Content`; BuildKit's `session/content`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import suppress
from typing import Final

from google.protobuf.empty_pb2 import Empty

from torana.core.errors import ConflictError, NotFoundError, UnsupportedError, UserError
from torana.core.oci.digest import Digest
from torana.core.pool import run_blocking
from torana.gateway.protocol import content_pb2 as pb
from torana.gateway.protocol import limits
from torana.gateway.session.layout import LayoutStore, Writing
from torana.gateway.session.transport import (
    Handler,
    Metadata,
    Session,
    Stream,
    Streaming,
    Unary,
    call,
    decode,
    value,
)

_SERVICE: Final = "/containerd.services.content.v1.Content/"
_STORE: Final = "buildkit-attachable-store-id"
_LISTED_AT_ONCE: Final = 100


class Contents:
    """The client's end: `stores` by id (`oci:NAME`, `local:PATH`, `export`)."""

    def __init__(self, stores: Mapping[str, LayoutStore]) -> None:
        self._stores = stores

    def methods(self) -> Mapping[str, Handler]:
        handlers: dict[str, Handler] = {
            "Info": Unary(self._info),
            "Update": Unary(self._update),
            "List": Streaming(self._list),
            "Delete": Unary(self._delete),
            "Read": Streaming(self._read),
            "Status": Unary(self._status),
            "ListStatuses": Unary(self._list_statuses),
            "Write": Streaming(self._write),
            "Abort": Unary(self._abort),
        }
        return {f"{_SERVICE}{name}": handler for name, handler in handlers.items()}

    def _store(self, metadata: Metadata) -> LayoutStore:
        id = value(metadata, _STORE)
        if not id:
            raise UserError(f'request lacks metadata "{_STORE}"')
        store = self._stores.get(id)
        if store is None:
            raise NotFoundError(f"unknown store {id}")
        return store

    async def _info(self, request: bytes, metadata: Metadata) -> bytes:
        store = self._store(metadata)
        digest = Digest.parse(decode(pb.InfoRequest, request, "Info").digest)
        size = await run_blocking(store.size, digest)
        return pb.InfoResponse(info=pb.Info(digest=digest, size=size)).SerializeToString()

    async def _update(self, request: bytes, metadata: Metadata) -> bytes:
        raise UnsupportedError("blobs of a layout have no labels")

    async def _delete(self, request: bytes, metadata: Metadata) -> bytes:
        raise UnsupportedError("blobs of a client are not deleted")

    async def _abort(self, request: bytes, metadata: Metadata) -> bytes:
        self._store(metadata)  # writes end with their stream
        return Empty().SerializeToString()

    async def _status(self, request: bytes, metadata: Metadata) -> bytes:
        self._store(metadata)
        ref = decode(pb.StatusRequest, request, "Status").ref
        raise NotFoundError(f"no write {ref}: not found")

    async def _list_statuses(self, request: bytes, metadata: Metadata) -> bytes:
        self._store(metadata)
        return pb.ListStatusesResponse().SerializeToString()

    async def _list(self, stream: Stream, metadata: Metadata) -> None:
        blobs = await run_blocking(lambda: list(self._store(metadata).blobs()))
        for start in range(0, len(blobs), _LISTED_AT_ONCE):
            part = blobs[start : start + _LISTED_AT_ONCE]
            infos = [pb.Info(digest=digest, size=size) for digest, size in part]
            await stream.send(pb.ListContentResponse(info=infos).SerializeToString())

    async def _read(self, stream: Stream, metadata: Metadata) -> None:
        store = self._store(metadata)
        request = decode(pb.ReadContentRequest, await stream.receive() or b"", "Read")
        digest, offset = Digest.parse(request.digest), request.offset
        if offset < 0 or request.size < 0:
            raise UserError("negative range of a blob")
        left = request.size or await run_blocking(store.size, digest)
        sent = 0
        while sent < left:
            size = min(left - sent, limits.PIECE_BYTES)
            data = await run_blocking(store.read, digest, offset + sent, size)
            if not data:
                break
            # Counted from the start of the range, as containerd does.
            answer = pb.ReadContentResponse(offset=sent, data=data)
            await stream.send(answer.SerializeToString())
            sent += len(data)

    async def _write(self, stream: Stream, metadata: Metadata) -> None:
        store = self._store(metadata)
        writing: Writing | None = None
        try:
            while (message := await stream.receive()) is not None:
                request = decode(pb.WriteContentRequest, message, "Write")
                if writing is None:
                    if not request.ref:
                        raise UserError("first message of a write must have a ref")
                    writing = await run_blocking(_begin, store, request)
                await run_blocking(_take, writing, request)
                is_committed = request.action == pb.COMMIT
                if is_committed:
                    await run_blocking(writing.commit)
                answer = pb.WriteContentResponse(
                    action=request.action,
                    offset=writing.offset,
                    total=writing.total,
                    digest=writing.digest(),
                )
                await stream.send(answer.SerializeToString())
                if is_committed:
                    return
        finally:
            if writing is not None:
                await run_blocking(writing.close)


def _begin(store: LayoutStore, request: pb.WriteContentRequest) -> Writing:
    expected = Digest.parse(request.expected) if request.expected else None
    if expected is not None:
        with suppress(NotFoundError):
            store.size(expected)
            raise ConflictError(f"content {expected}: already exists")
    return store.write(expected)


def _take(writing: Writing, request: pb.WriteContentRequest) -> None:
    """Check a message against what there is, and add its data."""
    expected = Digest.parse(request.expected) if request.expected else None
    if expected is not None:
        if writing.expected not in (None, expected):
            raise UserError("the expected digest of a write changed")
        writing.expected = expected
    if request.total:
        if writing.total not in (0, request.total):
            raise UserError("the size of a write changed")
        writing.total = request.total
    if request.action != pb.STAT and request.data:
        if request.offset != writing.offset:
            raise UserError(f"write at {request.offset}, expected {writing.offset}")
        writing.add(request.data)


class SessionContents:
    """The engine's end: one store of a client."""

    def __init__(self, session: Session, store: str) -> None:
        self._session = session
        self._metadata = [(_STORE, store)]

    async def size(self, digest: Digest) -> int:
        """Give the size of a blob.

        Raises:
            NotFoundError: the store has no such blob, or the client no such store.
        """
        answer = await call(
            self._session,
            f"{_SERVICE}Info",
            pb.InfoRequest(digest=digest),
            pb.InfoResponse,
            self._metadata,
        )
        return answer.info.size

    async def read(
        self, digest: Digest, *, offset: int = 0, size: int = 0
    ) -> AsyncGenerator[bytes, None]:
        """Read a blob, or `size` bytes of it; close the iterator. Whoever uses it checks digests.

        Raises:
            NotFoundError: the store has no such blob.
        """
        method = f"{_SERVICE}Read"
        request = pb.ReadContentRequest(digest=digest, offset=offset, size=size)
        async with self._session.stream(method, self._metadata) as stream:
            await stream.send(request.SerializeToString())
            await stream.end()
            while (message := await stream.receive()) is not None:
                yield decode(pb.ReadContentResponse, message, method).data

    async def write(self, digest: Digest, size: int, data: AsyncIterator[bytes]) -> None:
        """Write a blob; one that is there already is left alone, and `data` is not read.

        Raises:
            ToranaError: the client failed to store it.
        """
        async with self._session.stream(f"{_SERVICE}Write", self._metadata) as stream:
            with suppress(ConflictError):
                await _send_blob(stream, digest, size, data)


async def _send_blob(stream: Stream, digest: Digest, size: int, data: AsyncIterator[bytes]) -> None:
    async def say(action: pb.WriteAction.ValueType, piece: bytes = b"") -> pb.WriteContentResponse:
        request = pb.WriteContentRequest(
            action=action, ref=ref, total=size, expected=digest, offset=offset, data=piece
        )
        await stream.send(request.SerializeToString())
        message = await stream.receive()
        if message is None:
            raise UserError("the client ended a write before it was complete")
        return decode(pb.WriteContentResponse, message, f"{_SERVICE}Write")

    ref, offset = f"torana-{digest}", 0
    await say(pb.STAT)
    async for whole in data:
        for start in range(0, len(whole), limits.PIECE_BYTES):
            piece = whole[start : start + limits.PIECE_BYTES]
            answer = await say(pb.WRITE, piece)
            offset += len(piece)
            if answer.offset != offset:
                raise UserError(f"the client has {answer.offset} bytes of a blob, not {offset}")
    await say(pb.COMMIT)
    await stream.end()
