"""`RegistryAccess`: what all callers of registries share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from typing import Self

from torana.core.records import dataclass
from torana.plugins.registry.authorization import Authorizer
from torana.plugins.registry.connection import Pools
from torana.plugins.registry.credentials import Credentials, DockerCredentials
from torana.plugins.registry.settings import HostSettings, RegistrySettings, read_settings
from torana.plugins.registry.tokens import Tokens

_default: RegistryAccess | None = None


@dataclass(slots=True)
class RegistryAccess:
    """Settings, who we are, tokens, open connections."""

    settings: RegistrySettings
    credentials: Credentials
    pools: Pools = field(default_factory=Pools)
    tokens: Tokens | None = None  # who fetches tokens for us, if anyone
    authorizer: Authorizer = field(init=False)

    def __post_init__(self) -> None:
        self.authorizer = Authorizer(self.credentials, self.tokens)

    def insecure(self, host: str) -> Self:
        """Give the same with no check of one host's certificate, and http if it has no TLS."""
        known = self.settings.host(host)
        hosts: Mapping[str, HostSettings] = {
            **self.settings.hosts,
            host: replace(known, insecure=True),
        }
        return replace(self, settings=RegistrySettings(hosts))


def default_access() -> RegistryAccess:
    """Give the access of this process: the user's settings and Docker's credentials.

    Raises:
        InvalidRegistrySettingsError: the file of settings is wrong.
    """
    global _default
    if _default is None:
        _default = RegistryAccess(read_settings(), DockerCredentials())
    return _default


def set_default_access(access: RegistryAccess) -> None:
    """Let this process use `access`, as a daemon does that has settings of its own."""
    global _default
    _default = access
