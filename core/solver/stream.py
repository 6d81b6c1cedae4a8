"""`ProgressStream`: the events of one job, for everybody who listens, from the first one on.

Spec: the solver reference, section 12.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from torana.core.oci.digest import Digest
from torana.core.solver.progress import ProgressEvent, ProgressSink, VertexEvent
from torana.core.solver.reporter import Reporter, cancelled_event


class ProgressStream:
    """Keeps all events, so that who comes late misses none."""

    def __init__(self) -> None:
        self._events: list[ProgressEvent] = []
        self._sinks: list[ProgressSink] = []
        self._latest: dict[Digest, VertexEvent] = {}
        self._more: asyncio.Event | None = None
        self.is_closed = False

    def announce(self, reporter: Reporter) -> None:
        """Report a vertex, and what has become of it so far, once."""
        if reporter.announcement.digest not in self._latest:
            self.emit(reporter.announcement)
        if not reporter.is_silent and self._latest.get(reporter.event.digest) != reporter.event:
            self.emit(reporter.event)

    def emit(self, event: ProgressEvent) -> None:
        """Record an event and send it to all sinks; after the end it is dropped."""
        if self.is_closed:
            return
        if isinstance(event, VertexEvent):
            self._latest[event.digest] = event
        self._events.append(event)
        for sink in list(self._sinks):
            sink.emit(event)
        self._wake()

    def subscribe(self, sink: ProgressSink) -> None:
        """Send all events to `sink`, those of the past first."""
        for event in list(self._events):
            sink.emit(event)
        self._sinks.append(sink)

    def unsubscribe(self, sink: ProgressSink) -> None:
        """Send nothing more to `sink`."""
        self._sinks.remove(sink)

    async def events(self) -> AsyncIterator[ProgressEvent]:
        """Give all events from the first one on, until the stream is closed."""
        position = 0
        while True:
            while position < len(self._events):
                position += 1
                yield self._events[position - 1]
            if self.is_closed:
                return
            if self._more is None:
                self._more = asyncio.Event()
            await self._more.wait()

    def close(self) -> None:
        """End the stream; what still runs is reported as cancelled."""
        for event in list(self._latest.values()):
            if event.started is not None and event.completed is None:
                self.emit(cancelled_event(event))
        self.is_closed = True
        self._wake()

    def _wake(self) -> None:
        if self._more is not None:
            self._more.set()
            self._more = None
