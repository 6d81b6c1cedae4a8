"""`BlobReader`: containerd's content service, read-only, for what build records name.

Spec: wire reference, control, "Services the real daemon offers".
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any, Final

from torana.core.content.store import ContentStore
from torana.core.errors import NotFoundError, UnsupportedError, UserError
from torana.core.oci.digest import Digest
from torana.core.pool import run_blocking
from torana.gateway.daemon.statusmessages import timestamp
from torana.gateway.protocol import content_pb2 as pb
from torana.gateway.protocol.content_pb2_grpc import ContentServicer
from torana.gateway.protocol.errors import INVALID_ARGUMENT, NOT_FOUND, RemoteError
from torana.gateway.protocol.limits import PIECE_BYTES
from torana.gateway.protocol.status_pb2 import Status

_LISTED_AT_ONCE: Final = 100


class BlobReader(ContentServicer):
    """Reads from the first of some stores that has a blob; lists only the first store."""

    def __init__(self, *stores: ContentStore) -> None:
        self._stores = stores

    async def Info(self, request: pb.InfoRequest, context: Any) -> pb.InfoResponse:
        store, digest = self._find(request.digest)
        return pb.InfoResponse(info=_info(store, digest))

    async def List(
        self, request: pb.ListContentRequest, context: Any
    ) -> AsyncIterator[pb.ListContentResponse]:
        if any(request.filters):
            raise UnsupportedError("filters of blobs are not supported")
        store = self._stores[0]
        digests = sorted(store.digests())
        for start in range(0, len(digests), _LISTED_AT_ONCE):
            some = digests[start : start + _LISTED_AT_ONCE]
            infos = [_info(store, digest) for digest in some if store.exists(digest)]
            yield pb.ListContentResponse(info=infos)

    async def Read(
        self, request: pb.ReadContentRequest, context: Any
    ) -> AsyncIterator[pb.ReadContentResponse]:
        store, digest = self._find(request.digest)
        size, offset = store.size(digest), request.offset
        if offset < 0 or request.size < 0 or offset > size:
            raise RemoteError(Status(code=INVALID_ARGUMENT, message="read outside of the blob"))
        end = min(size, offset + request.size) if request.size else size
        with store.open(digest) as file:
            while offset < end:
                length = min(PIECE_BYTES, end - offset)
                data = await run_blocking(os.pread, file.fileno(), length, offset)
                if not data:
                    return
                yield pb.ReadContentResponse(offset=offset, data=data)
                offset += len(data)

    async def Status(self, request: pb.StatusRequest, context: Any) -> pb.StatusResponse:
        raise RemoteError(Status(code=NOT_FOUND, message=f"ref {request.ref}: not found"))

    async def ListStatuses(
        self, request: pb.ListStatusesRequest, context: Any
    ) -> pb.ListStatusesResponse:
        return pb.ListStatusesResponse()

    async def Update(self, request: pb.UpdateRequest, context: Any) -> pb.UpdateResponse:
        raise _read_only()

    async def Delete(self, request: pb.DeleteContentRequest, context: Any) -> Any:
        raise _read_only()

    async def Abort(self, request: pb.AbortRequest, context: Any) -> Any:
        raise _read_only()

    async def Write(
        self, request_iterator: Any, context: Any
    ) -> AsyncIterator[pb.WriteContentResponse]:
        raise _read_only()
        yield  # makes it a stream

    def _find(self, text: str) -> tuple[ContentStore, Digest]:
        try:
            digest = Digest.parse(text)
        except UserError as err:
            raise RemoteError(Status(code=INVALID_ARGUMENT, message=err.message)) from err
        for store in self._stores:
            if store.exists(digest):
                return store, digest
        raise RemoteError(Status(code=NOT_FOUND, message=f"content {digest}: not found"))


def _info(store: ContentStore, digest: Digest) -> pb.Info:
    try:
        status = os.stat(store.path(digest))
    except FileNotFoundError:
        raise NotFoundError(f"content {digest}: not found") from None
    moment = timestamp(status.st_mtime)
    return pb.Info(digest=str(digest), size=status.st_size, created_at=moment, updated_at=moment)


def _read_only() -> UnsupportedError:
    return UnsupportedError("blobs of the daemon can only be read")
