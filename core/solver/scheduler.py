"""`Scheduler`: the one loop that wakes edges.

Edges that have news stand in a queue, each at most once. Waking one never blocks: what takes time
runs in calls that give news when they end. When the queue is empty, what was learnt is written.

Spec: the solver reference, sections 4 and 8.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from torana.core.solver.edge import ActiveEdge
from torana.core.solver.failure import SchedulerError
from torana.core.solver.index import EdgeIndex
from torana.core.solver.inputs import CachedResult, Input
from torana.core.solver.pipe import EdgeState, Pipe

if TYPE_CHECKING:
    from torana.core.solver.graph import Graph

log = logging.getLogger(__name__)
_BATCH: Final = 500  # wake-ups before other tasks have their turn


class Scheduler:
    """Lives on the event loop that the first build runs on."""

    def __init__(self, graph: Graph, flush: Callable[[], None]) -> None:
        self._graph = graph
        self._flush = flush
        self._queue: deque[ActiveEdge] = deque()
        self._is_running = False
        self._ending = 0  # tasks that gave a slot back and have not been heard of
        self.index = EdgeIndex()
        self.wake_count = 0

    async def build(
        self, edge: ActiveEdge, running: dict[Pipe, asyncio.Future[None]]
    ) -> CachedResult:
        """Solve an edge. `running` has the request while it runs, to cancel it by.

        Cancelled, it returns when nothing runs for it any more.
        """
        done = asyncio.get_running_loop().create_future()

        def take(pipe: Pipe) -> None:
            if pipe.is_completed and not done.done():
                done.set_result(None)

        pipe = Pipe(target=edge, on_news=take, on_cancel=self._cancelled)
        running[pipe] = done
        edge.incoming[pipe] = None
        self.enqueue(edge)
        try:
            cancelled: asyncio.CancelledError | None = None
            while not pipe.is_completed:
                try:
                    await asyncio.shield(done)
                except asyncio.CancelledError as err:
                    cancelled = err
                    pipe.cancel()
            if cancelled is not None:
                raise cancelled
        finally:
            del running[pipe]
        if pipe.error is not None:
            raise pipe.error
        assert isinstance(pipe.value, ActiveEdge) and pipe.value.result is not None
        return pipe.value.result

    # What edges ask for

    def ask(
        self,
        target: ActiveEdge,
        desired: EdgeState,
        origin: ActiveEdge,
        handle: Callable[[Pipe], Any],
        item: Input,
    ) -> Pipe:
        """Ask an edge, which is the input `item` of another, to reach a state."""
        pipe = Pipe(
            desired=desired,
            key_count=len(item.keys),
            origin=origin,
            target=target,
            handle=handle,
            on_news=self._deliver,
            on_cancel=self._cancelled,
        )
        pipe.item = item
        origin.outgoing[pipe] = None
        target.incoming[pipe] = None
        self.enqueue(target)
        return pipe

    def call(self, origin: ActiveEdge, handle: Callable[[Pipe], Any]) -> Pipe:
        """Open a pipe for a call to answer."""
        pipe = Pipe(origin=origin, handle=handle, on_news=self._deliver)
        origin.outgoing[pipe] = None
        return pipe

    def postpone(self, edge: ActiveEdge) -> None:
        """Wake an edge again, after those that wait now."""
        edge.is_postponed = True
        self.enqueue(edge)

    def _deliver(self, pipe: Pipe) -> None:
        origin = pipe.origin
        assert origin is not None
        if not pipe.has_news:
            pipe.has_news = True
            origin.news.append(pipe)
        self.enqueue(origin)

    def _cancelled(self, pipe: Pipe) -> None:
        assert pipe.target is not None
        self.enqueue(pipe.target)

    # The loop

    def enqueue(self, edge: ActiveEdge) -> None:
        """Have an edge woken."""
        if not edge.is_queued:
            edge.is_queued = True
            self._queue.append(edge)
            if not self._is_running:
                self._is_running = True
                asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        for _ in range(_BATCH):
            if not self._queue:
                break
            edge = self._queue.popleft()
            edge.is_queued = False
            self._wake(edge)
        if self._queue:
            asyncio.get_running_loop().call_soon(self._run)
            return
        self._is_running = False
        self._grant_soon()
        try:
            self._flush()
        except OSError as err:  # the end of a build tries again, and says so
            log.warning("cannot write what was learnt: %s", err)

    def grant_later(self) -> None:
        """Give slots away when the end of the task that had one has been heard of."""
        self._ending += 1
        asyncio.get_running_loop().call_soon(self._grant_ended)

    def _grant_ended(self) -> None:
        self._ending -= 1
        self._grant_soon()

    def _grant_soon(self) -> None:
        """Give slots away when what has just become possible has asked for one, too."""
        asyncio.get_running_loop().call_soon(self._grant)

    def _grant(self) -> None:
        if not self._is_running and not self._ending:
            self._graph.slots.grant()

    def _wake(self, edge: ActiveEdge) -> None:
        self.wake_count += 1
        try:
            edge.wake(self)
            if edge.has_keys_changed:
                edge.has_keys_changed = False
                self._find_equal(edge)
        except Exception as err:  # whoever waits for the edge is to see it
            self._fail(edge, err)
        if edge.incoming and not edge.is_busy and not edge.is_queued:
            self._fail(edge, SchedulerError(f"{edge!r} left a request open"))
        elif edge.outgoing and not edge.incoming and not edge.is_queued:
            stuck = [pipe for pipe in edge.outgoing if not pipe.is_cancelled]
            if stuck:
                self._fail(edge, SchedulerError(f"{edge!r} left work behind"))

    def _fail(self, edge: ActiveEdge, error: Exception) -> None:
        edge.fail(error)
        if not edge.has_failed:
            edge.has_failed = True
            self.enqueue(edge)

    # Merging

    def _find_equal(self, edge: ActiveEdge) -> None:
        """Merge an edge with one that computes the same, if that may be."""
        if edge.owner is not None or edge.is_final or not edge.has_index_key:
            return
        found = self.index.find_equal(edge)
        if found is None or found.owner is not None:
            return
        graph = self._graph
        if graph.depends(edge.vertex, found.vertex) or graph.depends(found.vertex, edge.vertex):
            return
        source, target = edge, found
        if graph.has_owner(found.vertex, edge.vertex):
            source, target = found, edge
        if source.ignores_cache and not target.ignores_cache:
            return
        if source.is_final and not target.is_final:
            return
        self.index.release(source)
        source.give_up(target)
        graph.adopt(source.vertex, target.vertex)
        self.enqueue(target)
