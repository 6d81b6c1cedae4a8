"""`BuildSources`: the sources of one build, as its client and the daemon's configuration want."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from torana.core.ops.source import Source
from torana.gateway.daemon.config import RegistryConfig
from torana.gateway.session.auth import SessionAuth
from torana.gateway.session.manager import SessionManager
from torana.gateway.session.uploadsource import UploadSource
from torana.plugins.manager import PluginManager
from torana.plugins.registry.client import RegistryAccess
from torana.plugins.registry.connection import Pools
from torana.plugins.registry.credentials import Credential
from torana.plugins.registry.settings import HostSettings, RegistrySettings
from torana.plugins.sources.image import ImageSource

_HUB: Final = "docker.io"
_HUB_SERVER: Final = "registry-1.docker.io"  # what clients know the credentials of


def registry_settings(registries: Mapping[str, RegistryConfig]) -> RegistrySettings:
    """Give `[registry."HOST"]` of the daemon's configuration as the registry client wants it."""
    return RegistrySettings(
        {
            host: HostSettings.make(
                mirrors=each.mirrors,
                http=each.http,
                insecure=each.insecure,
                ca=each.ca,
                keypairs=each.keypairs,
                tls_folders=each.tls_folders,
            )
            for host, each in registries.items()
        }
    )


class BuildSources:
    """Finds sources: plugins', but for images with the client's credentials, and its uploads."""

    def __init__(
        self,
        plugins: PluginManager,
        settings: RegistrySettings,
        pools: Pools,
        sessions: SessionManager,
        ids: Sequence[str],
    ) -> None:
        self._plugins = plugins
        self._sessions = sessions
        self._ids = ids
        credentials = SessionCredentials(SessionAuth(sessions, ids))
        self._access = RegistryAccess(settings, credentials, pools)

    def __call__(self, scheme: str) -> Source | None:
        source = self._plugins.source(scheme)
        if isinstance(source, ImageSource):
            return ImageSource(self._access)
        if source is not None and scheme in UploadSource.schemes:
            return UploadSource(self._sessions, self._ids, source)
        return source


class SessionCredentials:
    """Asks a build's client who we are to a registry; made on the event loop, used in threads."""

    def __init__(self, auth: SessionAuth) -> None:
        self._auth = auth
        self._loop = asyncio.get_running_loop()

    def get(self, host: str) -> Credential | None:
        """Give what the client has for a host, None to be anonymous.

        Raises:
            ToranaError: the client failed to find out.
        """
        name = _HUB_SERVER if host == _HUB else host
        asking = asyncio.run_coroutine_threadsafe(self._auth.credentials(name), self._loop)
        found = asking.result()
        if found.username:
            return Credential(user=found.username, password=found.secret)
        return Credential(identity_token=found.secret) if found.secret else None
