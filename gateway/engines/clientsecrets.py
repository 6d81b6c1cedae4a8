"""`ClientSecrets`: secrets of the command line, read when a step asks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torana.gateway.engines.engine import SecretSource
from torana.plugins.secretreader import SecretReader

FindReader = Callable[[str], SecretReader]


class ClientSecrets:
    """Secrets by id, each from where its type says."""

    def __init__(self, sources: Sequence[SecretSource], find_reader: FindReader) -> None:
        self._sources = {source.id: source for source in sources}
        self._find_reader = find_reader

    async def get(self, id: str) -> bytes | None:
        """Give the value, None for an id that was not offered."""
        source = self._sources.get(id)
        if source is None:
            return None
        return await self._find_reader(source.type).read(id, source.fields)
