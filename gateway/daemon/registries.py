"""Registries as the daemon's configuration has them."""

from __future__ import annotations

from torana.gateway.daemon.config import Config
from torana.plugins.registry.access import RegistryAccess
from torana.plugins.registry.credentials import DockerCredentials
from torana.plugins.registry.settings import HostSettings, RegistrySettings


def registry_access(config: Config) -> RegistryAccess:
    """Give the access of a daemon; credentials are those of its own user."""
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
    return RegistryAccess(RegistrySettings(hosts), DockerCredentials())
