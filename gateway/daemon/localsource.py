"""`SessionFolders`: the source of `local://NAME` for clients that are elsewhere.

A client's folder is received into a retained folder of the store, and brought up to date there the
next time: only what has changed is sent. While a build uses it, another build gets one of its own.

Spec: reference of sources, section 7; wire reference, session, FileSync.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Final

from torana.core.cache.local import LocalTree
from torana.core.cache.manager import CacheManager
from torana.core.cache.ref import MutableRef, RecordType, Tree
from torana.core.errors import UserError
from torana.core.ops.local import LocalOptions, local_key, parse_local
from torana.core.ops.source import SourceKey, SourceRequest, SourceServices
from torana.core.patterns import PatternMatcher
from torana.gateway.session.files.receiver import ReceiveOptions
from torana.gateway.session.filesync import FolderRequest, receive_folder
from torana.gateway.session.transport import Session

FindSession = Callable[[str], Awaitable[Session]]
"""Gives the session with an id, waiting a little for it.

Raises:
    NoSessionError: it does not come.
"""

_NO_SESSION: Final = "could not access local files without session"


class SessionFolders:
    """Serves one build; `close` gives back the folders that it used."""

    schemes = ("local",)

    def __init__(
        self, find_session: FindSession, manager: CacheManager, *, session_id: str
    ) -> None:
        self._find_session = find_session
        self._manager = manager
        self._session_id = session_id
        self._used: list[MutableRef] = []

    def open(self, request: SourceRequest, services: SourceServices) -> SessionFolder:
        options = parse_local(request)
        session_id = options.session or self._session_id
        if not session_id:
            raise UserError(_NO_SESSION)
        return SessionFolder(self, request.rest, session_id, options, services)

    async def close(self) -> None:
        """Let other builds have the folders; what was read of them must not be used any more."""
        used, self._used = self._used, []
        for ref in used:
            await ref.release()

    async def receive(
        self, name: str, session_id: str, options: LocalOptions, services: SourceServices
    ) -> Tree:
        """Receive a folder of a client, or what has changed in it."""
        session = await self._find_session(session_id)
        asked = f"{options.prefix}-{name}" if options.prefix else name
        ref = await self._folder(name, session, options)
        self._used.append(ref)
        received = _Counter(services, name)
        with ref.mount() as folder:
            await receive_folder(
                session,
                FolderRequest(
                    name=asked,
                    include=options.include,
                    exclude=options.exclude,
                    follow_paths=options.follow_paths,
                ),
                folder,
                ReceiveOptions(metadata_only=_wanted(options), on_bytes=received.add),
            )
            received.finish()
            return LocalTree(folder, manager=self._manager)

    async def _folder(self, name: str, session: Session, options: LocalOptions) -> MutableRef:
        """Open what was received the last time, else something new."""
        shared = session.shared_key or session.id
        key = f"local:{name}:{options.shared_key_hint}:{shared}"
        if options.metadata_only:
            key += ":metadata"
        if not options.is_compared:  # everything is to be sent: there must be nothing to compare
            key += f":{secrets.token_hex(8)}"
        ref = await self._retained(key, name)
        if ref is None:  # a build that runs has it
            ref = await self._retained(f"{key}:{secrets.token_hex(8)}", name)
        assert ref is not None, "nobody else knows the key"
        return ref

    async def _retained(self, key: str, name: str) -> MutableRef | None:
        return await self._manager.retained(
            key,
            description=f"local source for {name}",
            base=None,
            wait=False,
            record_type=RecordType.LOCAL,
        )


class SessionFolder:
    """One local source of a build."""

    def __init__(
        self,
        folders: SessionFolders,
        name: str,
        session_id: str,
        options: LocalOptions,
        services: SourceServices,
    ) -> None:
        self._folders = folders
        self._name = name
        self._session_id = session_id
        self._options = options
        self._services = services

    async def cache_key(self, index: int) -> SourceKey:
        return SourceKey(local_key(self._name, self._session_id, self._options))

    async def snapshot(self) -> Tree | None:
        return await self._folders.receive(
            self._name, self._session_id, self._options, self._services
        )


class _Counter:
    """The progress of one transfer."""

    def __init__(self, services: SourceServices, name: str) -> None:
        self._progress = services.progress
        self._id = f"transferring {name}:"
        self._bytes = 0
        self._tell(is_done=False)

    def add(self, size: int) -> None:
        self._bytes += size
        self._tell(is_done=False)

    def finish(self) -> None:
        self._tell(is_done=True)

    def _tell(self, *, is_done: bool) -> None:
        self._progress.status(self._id, name="transferring", current=self._bytes, done=is_done)


def _wanted(options: LocalOptions) -> Callable[[str], bool] | None:
    """Give which files' content is wanted in a transfer of metadata, None for an ordinary one."""
    if not options.metadata_only:
        return None
    matcher = PatternMatcher(options.metadata_exceptions)
    return lambda path: bool(options.metadata_exceptions) and matcher.matches(path)
