"""`VertexContext`: where an op reports what it does while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable

from torana.core.solver.progress import LogEvent, ProgressEvent, StatusEvent
from torana.core.solver.vertex import Vertex


class VertexContext:
    """Reports output and counters of one vertex to all jobs that wait for it."""

    def __init__(self, vertex: Vertex, emit: Callable[[ProgressEvent], None]) -> None:
        self.vertex = vertex
        self._emit = emit
        self._started: dict[str, float] = {}

    def log(self, stream: int, data: bytes) -> None:
        """Report output: `stream` is 1 (stdout) or 2 (stderr)."""
        self._emit(
            LogEvent(vertex=self.vertex.digest, stream=stream, data=data, timestamp=time.time())
        )

    def status(
        self, id: str, *, name: str = "", current: int = 0, total: int = 0, done: bool = False
    ) -> None:
        """Report a counter; the first report of `id` starts it, `done` completes it."""
        now = time.time()
        self._emit(
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
