"""`FileReader`: secrets in files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torana.core.errors import UsageError
from torana.core.pool import run_blocking


class FileReader:
    """Reads `src=FILE`, by default the file that is called as the secret is."""

    def check(self, id: str, fields: Mapping[str, str]) -> None:
        """See that there is such a file.

        Raises:
            UsageError: there is none.
        """
        if set(fields) - {"src"}:
            raise UsageError(f"--secret {id}: a file has `src` and nothing else")
        if not Path(fields.get("src", id)).is_file():
            raise UsageError(f"--secret {id}: no such file: `{fields.get('src', id)}`")

    async def read(self, id: str, fields: Mapping[str, str]) -> bytes:
        """Give what the file has now."""
        return await run_blocking(Path(fields.get("src", id)).read_bytes)
