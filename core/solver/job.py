"""`Job`: one build of one client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from torana.core.errors import ConflictError
from torana.core.solver.op import Result
from torana.core.solver.progress import ProgressEvent, ProgressSink
from torana.core.solver.reporter import Reporter
from torana.core.solver.resolvercache import ResolverCache
from torana.core.solver.stream import ProgressStream
from torana.core.solver.vertex import Edge

if TYPE_CHECKING:
    from torana.core.solver.graph import ActiveVertex
    from torana.core.solver.inputs import CachedResult
    from torana.core.solver.pipe import Pipe
    from torana.core.solver.solver import Solver


class Job:
    """Holds vertices, and records their progress. Any number of solves may run in it at once.

    `values` is for what belongs to the request and the solver does not look at (entitlements).
    """

    def __init__(self, solver: Solver, job_id: str, session_id: str = "") -> None:
        self.id = job_id
        self.session_id = session_id
        self.values: dict[str, Any] = {}
        self.resolver_cache = ResolverCache()
        self.vertices: dict[ActiveVertex, None] = {}
        self.is_discarded = False
        self._solver = solver
        self._stream = ProgressStream()
        self._running: dict[Pipe, asyncio.Future[None]] = {}

    def __repr__(self) -> str:
        return f"<job {self.id}>"

    async def build(self, edge: Edge) -> Result | None:
        """Solve `edge`; give a handle that the caller releases, None for scratch.

        Cancelling it stops all work that no other build waits for.

        Raises:
            SolveError: an op failed.
        """
        result = (await self.solve(edge)).result
        return None if result is None else result.clone()

    async def solve(self, edge: Edge) -> CachedResult:
        """Solve `edge`; give the result, borrowed while the job lasts, with its keys for export.

        Raises:
            SolveError: an op failed.
        """
        if self.is_discarded:
            raise ConflictError(f"job has ended: `{self.id}`")
        found = await self._solver.solve(edge, self, self._running)
        if self.is_discarded:  # while this task was about to wake up: the result may be gone
            raise asyncio.CancelledError
        return found

    # Progress

    def announce(self, reporter: Reporter) -> None:
        """Show a vertex that is part of the build now."""
        self._stream.announce(reporter)

    def emit(self, event: ProgressEvent) -> None:
        """Record an event and send it to all sinks."""
        self._stream.emit(event)

    def subscribe(self, sink: ProgressSink) -> None:
        """Send all events to `sink`, those of the past first."""
        self._stream.subscribe(sink)

    def unsubscribe(self, sink: ProgressSink) -> None:
        """Send nothing more to `sink`."""
        self._stream.unsubscribe(sink)

    def events(self) -> AsyncIterator[ProgressEvent]:
        """Give all events from the first one on; ends when the job does."""
        return self._stream.events()

    # The end

    async def discard(self) -> None:
        """End the job; results handed out stay valid. Doing it again does nothing.

        Its id can be looked up for a while, for the sake of late readers of its progress.
        """
        if self.is_discarded:
            return
        self.is_discarded = True
        running = dict(self._running)
        for pipe in running:
            pipe.cancel()
        if running:
            await asyncio.wait(running.values())
        await self._solver.let_go(self)
        self._stream.close()
