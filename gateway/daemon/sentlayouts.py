"""`SessionLayout`: an OCI layout that the client of a build has, as an origin of images and caches.

Spec: wire reference, session, Content: `Info` for a digest, then `Read`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Final, TypeVar

from torana.core.content.store import ContentStore
from torana.core.errors import CorruptError, UnsupportedError
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest
from torana.core.oci.reference import ImageReference
from torana.core.pool import run_blocking
from torana.gateway.session.contents import SessionContents
from torana.gateway.session.transport import Session
from torana.plugins.registry.errors import StoppedError
from torana.plugins.registry.layout import MAX_MANIFEST, LayoutError, digest_of, media_type_of
from torana.plugins.registry.origin import OCTETS, OnBytes
from torana.plugins.sources.layout import LayoutNotOfferedError

T = TypeVar("T")

_STOP_CHECK_S: Final = 0.2

FindSession = Callable[[], Awaitable[Session]]


class SessionLayout:
    """Store `name` (`oci:NAME`, `local:PATH`) of a client; `loop` serves the sessions."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        find: FindSession,
        name: str,
        stop: threading.Event | None = None,
    ) -> None:
        self._loop = loop
        self._find = find
        self._name = name
        self.stop = stop or threading.Event()

    def resolve(self, reference: ImageReference) -> Descriptor:
        """Give what a digest names; layouts are not asked for tags."""
        digest = digest_of(reference)
        media_type, data = self.manifest(reference, digest)
        return Descriptor(media_type=media_type, digest=digest, size=len(data))

    def manifest(self, reference: ImageReference, digest: Digest) -> tuple[str, bytes]:
        data = self._call(self._read_small(digest))
        if Digest.of(data) != digest:
            raise CorruptError(f"store {self._name}: blob is damaged: {digest}")
        return media_type_of(data), data

    def find_blob(self, reference: ImageReference, digest: Digest) -> Descriptor:
        return Descriptor(media_type=OCTETS, digest=digest, size=self._call(self._size(digest)))

    def fetch(
        self,
        reference: ImageReference,
        blob: Descriptor,
        content: ContentStore,
        on_bytes: OnBytes = lambda count: None,
    ) -> None:
        if not content.use(blob.digest):
            self._call(self._fetch(blob, content, on_bytes))

    async def _size(self, digest: Digest) -> int:
        store = await self._store()
        try:
            return await store.size(digest)
        except UnsupportedError:
            raise LayoutNotOfferedError(f"unknown store {self._name}") from None

    async def _read_small(self, digest: Digest) -> bytes:
        store = await self._store()
        if await self._size(digest) > MAX_MANIFEST:
            raise LayoutError(f"manifest is larger than {MAX_MANIFEST} bytes: {digest}")
        data = bytearray()
        async with aclosing(store.read(digest)) as pieces:
            async for piece in pieces:
                data += piece
                if len(data) > MAX_MANIFEST:  # whatever it has said before
                    raise LayoutError(f"manifest is larger than {MAX_MANIFEST} bytes: {digest}")
        return bytes(data)

    async def _fetch(self, blob: Descriptor, content: ContentStore, on_bytes: OnBytes) -> None:
        store = await self._store()
        with content.writer() as writer:
            async with aclosing(store.read(blob.digest)) as pieces:
                async for piece in pieces:
                    if writer.size + len(piece) > blob.size:
                        raise CorruptError(f"blob is longer than {blob.size} bytes: {blob.digest}")
                    await run_blocking(writer.write, piece)
                    on_bytes(writer.size)
            await run_blocking(writer.commit, blob.digest, blob.size)

    async def _store(self) -> SessionContents:
        return SessionContents(await self._find(), self._name)

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the loop, from a thread, until it ends or `stop` is set."""
        running = asyncio.run_coroutine_threadsafe(work, self._loop)
        while True:
            try:
                return running.result(_STOP_CHECK_S)
            except TimeoutError:
                if running.done():
                    raise
                if self.stop.is_set():
                    running.cancel()
                    raise StoppedError from None
