"""`Slots`: a limit on work that runs at once; what most other work waits for goes first."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count


class Slots:
    """A semaphore with priorities, of all solvers of a worker; a limit of 0 is none."""

    def __init__(self, limit: int) -> None:
        self.used = 0
        self._limit = limit
        self._order = count()
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def take(
        self, priority: Callable[[], float], on_free: Callable[[], object] | None = None
    ) -> AsyncIterator[None]:
        """Hold a slot; of those who wait, the one of the highest priority comes first.

        `on_free` is called when the slot becomes free and somebody waits. It has `grant` called
        when those who are about to ask have asked; without it that is done at once.
        """
        if self._limit <= 0:
            yield
            return
        if self.used < self._limit and not self._waiting:
            self.used += 1
        else:
            await self._wait(priority())
        try:
            yield
        finally:
            self.used -= 1
            if self._waiting:
                (on_free or self.grant)()

    async def _wait(self, priority: float) -> None:
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (-priority, next(self._order), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was our turn at this very moment
                self.used -= 1
                self.grant()
            raise

    def grant(self) -> None:
        """Give free slots to those who wait."""
        while self._waiting and self.used < self._limit:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                self.used += 1
                turn.set_result(None)
