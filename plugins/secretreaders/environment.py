"""`EnvironmentReader`: secrets in environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping

from torana.core.errors import NotFoundError, UsageError


class EnvironmentReader:
    """Reads `env=NAME`, by default the variable that is called as the secret is."""

    def check(self, id: str, fields: Mapping[str, str]) -> None:
        """See that there is such a variable.

        Raises:
            UsageError: there is none.
        """
        if set(fields) - {"env"}:
            raise UsageError(f"--secret {id}: a variable has `env` and nothing else")
        name = fields.get("env", id)
        if name not in os.environ:
            raise UsageError(f"--secret {id}: no such environment variable: `{name}`")

    async def read(self, id: str, fields: Mapping[str, str]) -> bytes:
        """Give the variable's bytes."""
        name = os.fsencode(fields.get("env", id))
        if name not in os.environb:
            raise NotFoundError(f"no such environment variable: `{os.fsdecode(name)}`")
        return os.environb[name]
