"""`VertexProgress`: the vertex of something that is no op, such as an export."""

from __future__ import annotations

import asyncio
import time

from torana.core.oci.digest import Digest
from torana.core.solver.job import Job
from torana.core.solver.progress import LogEvent, StatusEvent, VertexEvent, WarningEvent


class VertexProgress:
    """Shown as running while entered; what is reported later still belongs to it.

    What has the same `id` is the same thing to clients.
    """

    def __init__(self, job: Job, title: str, id: str) -> None:
        self._job = job
        self._title = title
        self._digest = Digest.of_text(id)
        self._started = 0.0
        self._statuses: dict[str, float] = {}

    def __enter__(self) -> VertexProgress:
        self._started = time.time()
        self._emit(None, "")
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        text = "" if error is None else str(error) or type(error).__name__
        if isinstance(error, OSError) and error.strerror:
            text = error.strerror.lower()
        elif isinstance(error, asyncio.CancelledError):
            text = "context canceled"
        self._emit(time.time(), text)

    def _emit(self, completed: float | None, error: str) -> None:
        self._job.emit(
            VertexEvent(
                digest=self._digest,
                name=self._title,
                started=self._started,
                completed=completed,
                error=error,
            )
        )

    def status(
        self, id: str, *, name: str = "", current: int = 0, total: int = 0, done: bool = False
    ) -> None:
        """Show a counter."""
        now = time.time()
        started = self._statuses.setdefault(id, now)
        self._job.emit(
            StatusEvent(
                id=id,
                vertex=self._digest,
                name=name,
                current=current,
                total=total,
                timestamp=now,
                started=started,
                completed=now if done else None,
            )
        )

    def log(self, stream: int, data: bytes) -> None:
        """Show output."""
        self._job.emit(
            LogEvent(vertex=self._digest, stream=stream, data=data, timestamp=time.time())
        )

    def warn(self, text: str) -> None:
        """Show a warning."""
        self._job.emit(WarningEvent(vertex=self._digest, short=text))
