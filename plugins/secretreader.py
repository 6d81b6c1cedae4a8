"""`SecretReader`: where the values of secrets come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class SecretReader(Protocol):
    """Reads secrets of one type.

    Conformance: `torana.plugins.testing.secrets.SecretReaderSuite`.
    """

    def check(self, id: str, fields: Mapping[str, str]) -> None:
        """Look at what `--secret` says, before the build runs; does not read the value.

        Raises:
            UserError: a field is missing or unknown, or names what is not there.
        """
        ...

    async def read(self, id: str, fields: Mapping[str, str]) -> bytes:
        """Give the value.

        Raises:
            ToranaError: there is none; the text has nothing of the value.
        """
        ...
