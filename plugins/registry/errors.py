"""What can go wrong with a registry; messages name the host and what was asked for."""

from __future__ import annotations

from torana.core.errors import CorruptError, NotFoundError, ToranaError, UserError


class RegistryError(ToranaError):
    """A registry cannot be reached, or gives an answer that is no use."""

    code = "REGISTRY_FAILED"


class RegistryUnreachableError(RegistryError):
    """There is no answer at all: nobody is there, or they speak another scheme."""


class RegistryNotFoundError(NotFoundError):
    """A registry does not have what was asked for."""

    code = "REGISTRY_NOT_FOUND"


class RegistryAuthError(ToranaError):
    """A registry wants credentials that we do not have, or refuses those that we have."""

    code = "REGISTRY_DENIED"


class RegistryContentError(CorruptError):
    """A registry sent something else than the digest names."""

    code = "REGISTRY_CONTENT_WRONG"


class InvalidRegistrySettingsError(UserError):
    """Settings of registries are wrong; the text names the file and the key."""

    code = "REGISTRY_SETTINGS_INVALID"


class StoppedError(Exception):
    """The caller asked to stop."""
