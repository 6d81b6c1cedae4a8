"""`ProgressLog`: the events of one build, for anybody who asks, from the first one on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

from torana.core.oci.digest import Digest
from torana.core.solver.progress import (
    ProgressEvent,
    StatusEvent,
    VertexEvent,
    WarningEvent,
)
from torana.gateway.daemon.record import Steps

_PAUSE_S: Final = 0.05


class ProgressLog:
    """A `ProgressSink` with any number of readers; lives on one event loop."""

    def __init__(self) -> None:
        self._events: list[ProgressEvent] = []
        self._vertices: dict[Digest, VertexEvent] = {}
        self._warnings = 0
        self._waiting: list[asyncio.Future[None]] = []
        self._is_closed = False

    def emit(self, event: ProgressEvent) -> None:
        self._events.append(event)
        if isinstance(event, VertexEvent):
            self._vertices[event.digest] = event
        elif isinstance(event, WarningEvent):
            self._warnings += 1
        self._wake()

    def close(self) -> None:
        """Say that nothing more comes; readers end when they have had everything."""
        self._is_closed = True
        self._wake()

    @property
    def events(self) -> Sequence[ProgressEvent]:
        """Give everything so far."""
        return tuple(self._events)

    @property
    def steps(self) -> Steps:
        """Count vertices as they are now."""
        latest = self._vertices.values()
        return Steps(
            total=len(latest),
            completed=sum(vertex.completed is not None for vertex in latest),
            cached=sum(vertex.cached for vertex in latest),
            warnings=self._warnings,
        )

    async def batches(self) -> AsyncIterator[Sequence[ProgressEvent]]:
        """Give all events in order, several at a time; counters only as they are by then."""
        position = 0
        while True:
            batch = self._events[position:]
            if batch:
                position += len(batch)
                yield newest_counters(batch)
            elif self._is_closed:
                return
            else:
                news = asyncio.get_running_loop().create_future()
                self._waiting.append(news)
                await news
                if not self._is_closed:
                    await asyncio.sleep(_PAUSE_S)  # what happens at once is sent at once

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for news in waiting:
            if not news.done():
                news.set_result(None)


def newest_counters(events: Iterable[ProgressEvent]) -> list[ProgressEvent]:
    """Leave out counters that a later event of the same batch replaces."""
    kept: list[ProgressEvent] = []
    seen: set[tuple[Digest, str]] = set()
    for event in reversed(list(events)):
        if isinstance(event, StatusEvent):
            key = (event.vertex, event.id)
            if key in seen:
                continue
            seen.add(key)
        kept.append(event)
    kept.reverse()
    return kept
