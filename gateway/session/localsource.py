"""`local://` from sessions: folders of clients, kept between builds so that little is sent again.

Kept folders are retained records of the store, found by name, hint, filters and the client's shared
key; disk usage and garbage collection see them as `source.local`. One that another build uses is
left alone: two views of one folder would change each other.

Spec: reference of sources, section 7; docs/design/session.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from copy import copy
from pathlib import Path
from typing import Final, cast

from torana.core.cache.local import LocalTree
from torana.core.cache.manager import CacheManager
from torana.core.cache.ref import MutableRef, RecordType, Tree
from torana.core.errors import UserError
from torana.core.oci.digest import Digest
from torana.core.ops.keyjson import key_json
from torana.core.ops.local import LocalOptions, local_key, parse_local
from torana.core.ops.source import SourceKey, SourceRequest, SourceServices
from torana.core.patterns import PatternMatcher
from torana.gateway.session.files.receiver import ReceiveOptions
from torana.gateway.session.files.writer import WriteOptions
from torana.gateway.session.filesync import (
    FolderNotOfferedError,
    FolderRequest,
    receive_folder,
)
from torana.gateway.session.manager import SessionManager
from torana.gateway.session.transport import NoSessionError, Session

_REPORT_BYTES: Final = 1 << 20


class SessionLocalSource:
    """Serves `local://NAME` from the sessions `ids` of a build."""

    schemes = ("local",)

    def __init__(self, sessions: SessionManager, ids: Sequence[str]) -> None:
        self._sessions = sessions
        self._ids = ids

    def open(self, request: SourceRequest, services: SourceServices) -> SessionLocalInstance:
        options = parse_local(request)
        return SessionLocalInstance(request.rest, options, self._sessions, self._ids, services)


class SessionLocalInstance:
    """A folder of a client with a selection."""

    def __init__(
        self,
        name: str,
        options: LocalOptions,
        sessions: SessionManager,
        ids: Sequence[str],
        services: SourceServices,
    ) -> None:
        self._name = name
        self._options = options
        self._sessions = sessions
        self._ids = ids
        self._services = services

    async def cache_key(self, index: int) -> SourceKey:
        session = self._options.session or next(iter(self._ids), "")
        if not session:
            raise UserError("could not access local files without session")
        return SourceKey(local_key(self._name, session, self._options))

    async def snapshot(self) -> Tree | None:
        """Bring the kept folder up to date, and give it as a tree that holds it.

        Raises:
            NoSessionError: no client of the build is connected.
            FolderNotOfferedError: no client offers the folder.
        """
        if self._options.session:
            try:
                session = await self._sessions.get(self._options.session)
                return await self._transfer(session)
            except (NoSessionError, FolderNotOfferedError):
                if not self._ids:
                    raise
        return await self._sessions.any(self._ids, self._transfer)

    async def _transfer(self, session: Session) -> Tree:
        options, prefix = self._options, self._options.prefix
        name = f"{prefix}-{self._name}" if prefix else self._name
        request = FolderRequest(
            name=name,
            include=options.include,
            exclude=options.exclude,
            follow_paths=options.follow_paths,
        )
        ref = await self._kept(session.shared_key, request)
        with ExitStack() as mounts:
            try:
                folder = mounts.enter_context(ref.mount())
                progress = _Progress(self._services, f"transferring {name}:")
                write = WriteOptions(
                    compares=options.is_compared, owner=(os.geteuid(), os.getegid())
                )
                received = ReceiveOptions(
                    write=write, metadata_only=self._wants(), on_bytes=progress.add
                )
                await receive_folder(session, request, folder, received)
                progress.finish()
            except BaseException:
                await ref.release()
                raise
            manager = cast("CacheManager", self._services.refs)
            return KeptTree(folder, manager=manager, hold=_Hold(ref, mounts.pop_all()))

    async def _kept(self, shared_key: str, request: FolderRequest) -> MutableRef:
        """Open the kept folder, or the first further one that nobody uses."""
        options = self._options
        lists = (request.include, request.exclude, request.follow_paths)
        selected = Digest.of(
            key_json({"Lists": [None if value is None else list(value) for value in lists]})
        )
        suffix = ":metadata" if options.metadata_only else ""
        parts = (request.name, options.shared_key_hint, shared_key, selected)
        key = "local:" + ":".join(parts) + suffix
        ref, number = None, 0
        while ref is None:
            ref = await self._services.refs.retained(
                f"{key}:{number}" if number else key,
                description=f"local source for {request.name}",
                base=None,
                wait=False,
                record_type=RecordType.LOCAL,
            )
            number += 1
        return ref

    def _wants(self) -> Callable[[str], bool] | None:
        """Give which contents a transfer of metadata has all the same; None for other transfers."""
        if not self._options.metadata_only:
            return None
        return PatternMatcher(self._options.metadata_exceptions).matches


class KeptTree(LocalTree):
    """A kept folder; it is free for other builds when the last handle on it is released."""

    def __init__(self, folder: Path, *, manager: CacheManager, hold: _Hold) -> None:
        super().__init__(folder, manager=manager)
        self._hold = hold
        self._is_released = False

    def clone(self) -> KeptTree:
        self.scan  # noqa: B018  # made here, so that all handles share it
        handle = copy(self)
        handle._is_released = False
        self._hold.count += 1
        return handle

    async def release(self) -> None:
        if not self._is_released:
            self._is_released = True
            await self._hold.release()


class _Hold:
    """The record of a kept folder, and how many handles are on it."""

    def __init__(self, ref: MutableRef, mounted: ExitStack) -> None:
        self._ref = ref
        self._mounted = mounted
        self.count = 1

    async def release(self) -> None:
        self.count -= 1
        if not self.count:
            self._mounted.close()
            await self._ref.release()


class _Progress:
    """Counts what is received; told every megabyte, and at the end."""

    def __init__(self, services: SourceServices, id: str) -> None:
        self._progress = services.progress
        self._id = id
        self._bytes = 0
        self._told = 0
        self._tell()

    def add(self, size: int) -> None:
        self._bytes += size
        if self._bytes - self._told >= _REPORT_BYTES:
            self._told = self._bytes
            self._tell()

    def finish(self) -> None:
        self._tell(done=True)

    def _tell(self, *, done: bool = False) -> None:
        self._progress.status(self._id, name="transferring", current=self._bytes, done=done)
