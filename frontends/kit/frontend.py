"""`Frontend`: what turns a build file into a result."""

from __future__ import annotations

from typing import Protocol

from torana.gateway.client.client import Client, Result


class Frontend(Protocol):
    """A build language. One object serves any number of builds, also at the same time."""

    @property
    def name(self) -> str:
        """The name in `# syntax=` lines and of the entry point."""
        ...

    async def build(self, client: Client) -> Result:
        """Read the build file through `client`, lower it, and give what was solved.

        Raises:
            BuildFileError: the file is wrong; its `sources` show where.
        """
        ...
