"""`ClientSide`: what a build has of its client: folders, secrets, agents, credentials, outputs."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from torana.core.content.store import ContentStore
from torana.core.errors import NotFoundError
from torana.core.oci.descriptor import Descriptor
from torana.core.ops.source import Source
from torana.gateway.daemon.output import SessionOutput, pieces
from torana.gateway.daemon.registries import SessionCredentials, SessionTokens, TokenCache
from torana.gateway.daemon.sentlayouts import SessionLayout
from torana.gateway.session.auth import SessionAuth
from torana.gateway.session.contents import SessionContents
from torana.gateway.session.localsource import SessionLocalSource
from torana.gateway.session.manager import SessionManager
from torana.gateway.session.secrets import SessionSecrets
from torana.gateway.session.ssh import SessionSSH
from torana.gateway.session.transport import NoSessionError, Session
from torana.gateway.session.uploadsource import UploadSource
from torana.plugins.manager import PluginManager
from torana.plugins.registry.access import RegistryAccess
from torana.plugins.registry.connection import Pools
from torana.plugins.registry.origin import OpenOrigin
from torana.plugins.registry.settings import RegistrySettings
from torana.plugins.sources.blob import BlobSource, LayoutBlobSource
from torana.plugins.sources.bloborigins import BlobOrigins
from torana.plugins.sources.git import GitSource
from torana.plugins.sources.image import ImageSource
from torana.plugins.sources.layout import LayoutSource


class ClientSide:
    """Made for one build on the event loop; a build without a session has little of all this."""

    def __init__(
        self,
        sessions: SessionManager,
        session_id: str,
        plugins: PluginManager,
        settings: RegistrySettings,
        pools: Pools,
        tokens: TokenCache,
    ) -> None:
        self._ids = [session_id] if session_id else []
        self._sessions = sessions
        self._plugins = plugins
        self.local = SessionLocalSource(sessions, self._ids)
        self.secrets = SessionSecrets(sessions, self._ids)
        self.ssh = SessionSSH(sessions, self._ids)
        auth = SessionAuth(sessions, self._ids)
        self.registries = RegistryAccess(
            settings, SessionCredentials(auth), pools, SessionTokens(auth, tokens)
        )

    def source(self, scheme: str) -> Source | None:
        """Find a source: a plugin's, but for images with the client's credentials, and uploads."""
        if scheme in LayoutSource.schemes:
            return LayoutSource(self._layout)
        if scheme in LayoutBlobSource.schemes:
            return LayoutBlobSource(self._layout)
        source = self._plugins.source(scheme)
        if isinstance(source, ImageSource):
            return ImageSource(self.registries)
        if isinstance(source, BlobSource):
            return BlobSource(self.registries)
        if isinstance(source, GitSource):
            return GitSource(BlobOrigins(access=self.registries, find_layout=self._layout))
        if source is not None and scheme in UploadSource.schemes:
            return UploadSource(self._sessions, self._ids, source)
        return source

    def _layout(self, store: str, session_id: str) -> OpenOrigin:
        """Find a layout of the session that is named, else of the build's own."""
        return self._store(f"oci:{store}", session_id)

    def _store(self, name: str, session_id: str = "") -> OpenOrigin:
        async def find() -> Session:
            return await self._session(session_id)

        loop = asyncio.get_running_loop()
        return lambda stop: SessionLayout(loop, find, name, stop)

    async def _session(self, session_id: str = "") -> Session:
        ids = [session_id] if session_id else self._ids
        if not ids:
            raise NoSessionError("no active sessions")
        return await self._sessions.get(ids[0])

    # `ClientLayouts`, for build caches

    @property
    def is_lasting(self) -> bool:
        return False  # the client may go

    def origin(self, folder: str) -> OpenOrigin:
        return self._store(f"local:{folder}")

    async def put(self, folder: str, blob: Descriptor, content: ContentStore) -> None:
        store = SessionContents(await self._session(), f"local:{folder}")
        with suppress(NotFoundError):
            if await store.size(blob.digest) == blob.size:
                return
        await store.write(blob.digest, blob.size, pieces(content, blob))

    async def output(self, number: int) -> SessionOutput | None:
        """Give where export `number` writes, None for a build without a session.

        Raises:
            NoSessionError: the client is not connected.
        """
        if not self._ids:
            return None
        return SessionOutput(await self._sessions.get(self._ids[0]), number)
