"""`UploadSource`: `http://buildkit-session/ID`, what a client uploads, such as its standard input.

All other addresses are left to the source that serves `http` anyway.

Spec: wire reference, session, Upload.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any, Final
from urllib.parse import urlsplit

from torana.core.cache.ref import Tree
from torana.core.oci.digest import Digest
from torana.core.ops.source import (
    Source,
    SourceInstance,
    SourceKey,
    SourceRequest,
    SourceServices,
)
from torana.core.pool import run_blocking
from torana.gateway.session.manager import SessionManager
from torana.gateway.session.transport import Session
from torana.gateway.session.upload import HOST, pull

_FILENAME: Final = "http.filename"
_DEFAULT_NAME: Final = "download"


class UploadSource:
    """Serves uploads of the sessions `ids`; `others` serves the web."""

    schemes = ("http", "https")

    def __init__(self, sessions: SessionManager, ids: Sequence[str], others: Source) -> None:
        self._sessions = sessions
        self._ids = ids
        self._others = others

    def open(self, request: SourceRequest, services: SourceServices) -> SourceInstance:
        if urlsplit(request.identifier).hostname != HOST:
            return self._others.open(request, services)
        return UploadInstance(request, services, self._sessions, self._ids)


class UploadInstance:
    """One upload. It can be read once, so that all uses in a build share what was read."""

    def __init__(
        self,
        request: SourceRequest,
        services: SourceServices,
        sessions: SessionManager,
        ids: Sequence[str],
    ) -> None:
        self._path = urlsplit(request.identifier).path
        self._name = os.path.basename(request.attrs.get(_FILENAME, "")) or _DEFAULT_NAME
        self._services = services
        self._sessions = sessions
        self._ids = ids

    async def cache_key(self, index: int) -> SourceKey:
        _, digest = await self._received()
        return SourceKey(f"{self._name}:{digest}", pin=digest)

    async def snapshot(self) -> Tree | None:
        ref_id, _ = await self._received()
        return await self._services.refs.get(ref_id)

    async def _received(self) -> tuple[str, Digest]:
        """Give the record that holds the file, and the file's digest."""
        memo: Any = self._services.memo
        lock = memo.setdefault(("http", "uploads"), asyncio.Lock())
        key = ("http", "upload", self._path, self._name)
        async with lock:
            if key not in memo:
                memo[key] = await self._sessions.any(self._ids, self._receive)
            found: tuple[str, Digest] = memo[key]
            return found

    async def _receive(self, session: Session) -> tuple[str, Digest]:
        new = await self._services.refs.new_mutable(None, description=f"upload {self._name}")
        try:
            with new.mount() as root:
                target = root / self._name
                digest = hashlib.sha256()
                with open(target, "xb") as file:
                    async with aclosing(pull(session, self._path)) as pieces:
                        async for piece in pieces:
                            digest.update(piece)
                            await run_blocking(file.write, piece)
                target.chmod(0o600)
                for path in (target, root):
                    os.utime(path, (0, 0))
            ref = await new.commit()
        except BaseException:
            await new.release()
            raise
        await ref.release()
        return ref.id, Digest("sha256:" + digest.hexdigest())
