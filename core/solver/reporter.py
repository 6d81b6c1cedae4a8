"""`Reporter`: tells the jobs that hold a vertex what becomes of it.

Spec: the solver reference, section 12.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Final, Protocol, TypeVar

from torana.core.errors import ToranaError, UserError
from torana.core.solver.failure import SolveError
from torana.core.solver.progress import ProgressEvent, VertexEvent
from torana.core.solver.vertex import Vertex

T = TypeVar("T")
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
CANCELLED = "context canceled"
"""Error text of a vertex whose work was cancelled, as BuildKit's clients know it."""


def cancelled_event(event: VertexEvent) -> VertexEvent:
    """Give the end of a vertex that was running when its job ended."""
    return replace(event, completed=time.time(), error=CANCELLED)


class Place(Protocol):
    """Where a vertex is in the graph: who is interested in it, and what is below it."""

    def emit(self, event: ProgressEvent) -> None: ...

    def input_reporters(self) -> Iterable[Reporter]: ...


class Reporter:
    """Events of one vertex."""

    __slots__ = ("_place", "announcement", "event", "vertex")

    def __init__(self, vertex: Vertex, place: Place) -> None:
        self.vertex = vertex
        self._place = place
        self.announcement = VertexEvent(
            digest=vertex.digest,
            name=vertex.name,
            inputs=tuple(edge.vertex.digest for edge in vertex.inputs),
            progress_group=vertex.options.progress_group,
        )
        self.event = self.announcement

    @property
    def is_silent(self) -> bool:
        """Whether nothing but the announcement was reported."""
        return self.event is self.announcement

    def _report(self, event: VertexEvent) -> None:
        self.event = event
        if not event.error and event.started is not None:
            self._report_inputs()
        self._place.emit(event)

    def _report_inputs(self) -> None:
        """Report inputs that never ran as cached, those below them first."""
        now = time.time()
        found: list[Reporter] = []
        pending = list(self._place.input_reporters())
        while pending:
            each = pending.pop()
            if each.is_silent:
                each.event = each._cached_event(now)
                found.append(each)
                pending.extend(each._place.input_reporters())
        for each in reversed(found):
            each._place.emit(each.event)

    def report_cached(self) -> None:
        """Report that a stored result was taken."""
        self._report(self._cached_event(time.time()))

    def _cached_event(self, now: float) -> VertexEvent:
        announced = self.announcement  # `replace` takes several times as long
        return VertexEvent(
            digest=announced.digest,
            name=announced.name,
            inputs=announced.inputs,
            started=now,
            completed=now,
            cached=True,
            progress_group=announced.progress_group,
        )

    async def run(self, call: Callable[[], Awaitable[T]], *, is_reported: bool = True) -> T:
        """Do work of the op; its failures come out as `SolveError`.

        Without `is_reported` only a failure is reported.
        """
        started = self.announcement
        if is_reported:
            started = replace(started, started=time.time())
            self._report(started)
        error = ""
        try:
            return await call()
        except asyncio.CancelledError as err:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                error = CANCELLED
                raise
            error = "cancelled by the op"
            raise SolveError(self.vertex, UserError(error)) from err
        except SolveError as err:
            error = str(err)
            raise
        except ToranaError as err:
            error = str(err)
            raise SolveError(self.vertex, err) from err
        except OSError as err:
            error = (err.strerror or str(err)).lower()
            if err.errno not in _FULL:
                raise
            raise SolveError(self.vertex, ToranaError(error)) from err
        except BaseException as err:
            error = str(err) or type(err).__name__
            raise
        finally:
            if is_reported:
                self._report(replace(started, completed=time.time(), error=error))
            elif error and error != CANCELLED:
                now = time.time()
                self._report(replace(self.announcement, started=now, completed=now, error=error))
