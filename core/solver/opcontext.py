"""`OpContext`: what an op may ask of the solver while it runs."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

from torana.core.solver.op import Result
from torana.core.solver.progress import LogEvent, StatusEvent
from torana.core.solver.resolvercache import CombinedResolverCache
from torana.core.solver.vertex import Edge, Vertex

if TYPE_CHECKING:
    from torana.core.solver.graph import ActiveVertex
    from torana.core.solver.keys import ExportableKey


class OpContext:
    """Reports for one vertex, and builds and asks on behalf of all jobs that hold it."""

    __slots__ = ("_build", "_owner", "_started", "nested_keys")

    def __init__(
        self,
        owner: ActiveVertex,
        build: Callable[[ActiveVertex, Edge], Awaitable[tuple[Result | None, list[ExportableKey]]]],
    ) -> None:
        self._owner = owner
        self._build = build
        self._started: dict[str, float] = {}
        self.nested_keys: list[ExportableKey] = []  # of what was built from inside the op

    @property
    def vertex(self) -> Vertex:
        return self._owner.vertex

    def log(self, stream: int, data: bytes) -> None:
        """Report output: `stream` is 1 (stdout) or 2 (stderr)."""
        self._owner.emit(
            LogEvent(vertex=self.vertex.digest, stream=stream, data=data, timestamp=time.time())
        )

    def status(
        self, id: str, *, name: str = "", current: int = 0, total: int = 0, done: bool = False
    ) -> None:
        """Report a counter; the first report of `id` starts it, `done` completes it."""
        now = time.time()
        self._owner.emit(
            StatusEvent(
                id=id,
                vertex=self.vertex.digest,
                name=name,
                current=current,
                total=total,
                timestamp=now,
                started=self._started.setdefault(id, now),
                completed=now if done else None,
            )
        )

    async def build(self, edge: Edge) -> Result | None:
        """Solve `edge` as a nested build of this vertex; the handle is the caller's.

        What it needs lives as long as this vertex does.

        Raises:
            SolveError: an op failed.
        """
        result, keys = await self._build(self._owner, edge)
        self.nested_keys += keys
        return result

    def sessions(self) -> Iterator[str]:
        """Give the sessions of all jobs that need this vertex, those of nested builds last."""
        seen: set[str] = set()
        for job in self._owner.audience():
            if job.session_id and job.session_id not in seen:
                seen.add(job.session_id)
                yield job.session_id

    @property
    def resolver_cache(self) -> CombinedResolverCache:
        """What remote names were resolved to, for all jobs that need this vertex."""
        return CombinedResolverCache([job.resolver_cache for job in self._owner.audience()])

    def add_cleanup(self, function: Callable[[], Awaitable[None]]) -> None:
        """Have `function` called when nobody needs the vertex any more."""
        self._owner.cleanups.append(function)
