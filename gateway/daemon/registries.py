"""Registries, reached as the daemon's configuration says, on behalf of a build's client."""

from __future__ import annotations

import asyncio
from typing import Final

from torana.gateway.daemon.config import Config
from torana.gateway.session.auth import SessionAuth
from torana.plugins.registry.credentials import Credential
from torana.plugins.registry.settings import HostSettings, RegistrySettings, read_settings

_HUB: Final = "docker.io"
_HUB_SERVER: Final = "registry-1.docker.io"  # what clients know the credentials of


def registry_settings(config: Config) -> RegistrySettings:
    """Give `[registry."HOST"]` of a daemon; without any, what its user has for other builds.

    Raises:
        InvalidRegistrySettingsError: the user's file is wrong.
    """
    if not config.registries:
        return read_settings()
    hosts = {
        host: HostSettings.make(
            mirrors=registry.mirrors,
            http=registry.http,
            insecure=registry.insecure,
            ca=registry.ca,
            keypairs=registry.keypairs,
            tls_folders=registry.tls_folders,
        )
        for host, registry in config.registries.items()
    }
    return RegistrySettings(hosts)


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
