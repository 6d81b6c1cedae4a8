"""`Slots`: a limit on work that runs at once; what most other work waits for goes first."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count


class Slots:
    """A semaphore with priorities; a limit of 0 is none.

    `on_free` is called when a slot becomes free that somebody waits for. It has `grant` called, at
    once or when those who are about to ask have asked.
    """

    def __init__(self, limit: int) -> None:
        self.on_free: Callable[[], object] = self.grant
        self._limit = limit
        self.used = 0
        self._order = count()
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def take(self, priority: Callable[[], float]) -> AsyncIterator[None]:
        """Hold a slot; of those who wait, the one of the highest priority comes first."""
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
            self._give_back()

    async def _wait(self, priority: float) -> None:
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (-priority, next(self._order), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back()  # it was our turn at this very moment
            raise

    def _give_back(self) -> None:
        self.used -= 1
        if self._waiting:
            self.on_free()

    def grant(self) -> None:
        """Give free slots to those who wait."""
        while self._waiting and self.used < self._limit:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                self.used += 1
                turn.set_result(None)
