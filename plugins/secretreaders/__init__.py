"""Built-in readers of secrets: files and environment variables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from torana.plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from torana.plugins.secretreader import SecretReader

TYPES: Final = ("env", "file")


@hookimpl
def torana_find_secret_reader(type: str) -> SecretReader | None:
    """Give the built-in reader of a type."""
    if type == "file":
        from torana.plugins.secretreaders.file import FileReader

        return FileReader()
    if type == "env":
        from torana.plugins.secretreaders.environment import EnvironmentReader

        return EnvironmentReader()
    return None
