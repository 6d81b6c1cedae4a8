"""`DrivingClient`: a daemon's gateway for frontends that run on this side.

Frontends that are installed here are run here, also those that a `# syntax=` line names; images are
left to the daemon.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torana.core.oci.digest import Digest
from torana.core.solver.progress import LogEvent, ProgressSink, VertexEvent
from torana.gateway.client.client import Result, SolveRequest
from torana.gateway.client.remote import RemoteClient
from torana.gateway.engines.remote.places import Places
from torana.gateway.runners.finder import GATEWAY, FrontendFinder
from torana.gateway.runners.imageref import parse_source
from torana.plugins.selection import ImageChoice


class DrivingClient(RemoteClient):
    """A client that remembers what it sends, and knows the frontends of this side."""

    places: Places | None = None
    progress: ProgressSink | None = None
    finder: FrontendFinder | None = None  # None leaves all frontends to the daemon

    async def solve(self, request: SolveRequest) -> Result:
        if request.definition is not None and self.places is not None:
            self.places.note(request.definition)
        if request.frontend and self.finder is not None:
            nested = self.nested(request.frontend_opt, request.frontend_inputs)
            if request.frontend != GATEWAY:
                result: Result = await self.finder(request.frontend).build(nested)
                return result
            if not self._is_for_daemon(self.finder, nested):
                result = await self.finder(GATEWAY).build(nested)
                return result
        return await super().solve(request)

    @staticmethod
    def _is_for_daemon(finder: FrontendFinder, nested: RemoteClient) -> bool:
        source = nested.options.get("source", "")
        if not source:
            parse_source(nested.options)
        return isinstance(finder.select(source), ImageChoice)

    @contextmanager
    def vertex(self, name: str) -> Iterator[Callable[[int, bytes], None]]:
        """Show something that only this side knows of; see `HostClient.vertex`."""
        progress = self.places or self.progress
        digest = Digest.of_text(f"{self.session_id} {name}")
        started = time.time()

        def emit(event: VertexEvent | LogEvent) -> None:
            if progress is not None:
                progress.emit(event)

        emit(VertexEvent(digest=digest, name=name, started=started))
        error = ""
        try:
            yield lambda stream, data: emit(
                LogEvent(vertex=digest, stream=stream, data=data, timestamp=time.time())
            )
        except BaseException as err:
            error = str(err) or type(err).__name__
            raise
        finally:
            done = time.time()
            emit(
                VertexEvent(digest=digest, name=name, started=started, completed=done, error=error)
            )
