"""`ClientSecrets`: secrets of the command line, read when a step asks for them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from torana.core.pool import run_blocking
from torana.gateway.engines.engine import SecretSource


class ClientSecrets:
    """Files and environment variables by id."""

    def __init__(self, sources: Sequence[SecretSource]) -> None:
        self._sources = {source.id: source for source in sources}

    async def get(self, id: str) -> bytes | None:
        """Give the value, None for an id that was not offered."""
        source = self._sources.get(id)
        if source is None:
            return None
        if source.env is not None:
            return os.environb.get(os.fsencode(source.env))
        assert source.file is not None
        return await run_blocking(source.file.read_bytes)
