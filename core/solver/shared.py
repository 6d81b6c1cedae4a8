"""`Shared`: one run of some work for many waiters; `run_all`: several at once, all or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class _Run(Generic[T]):
    __slots__ = ("task", "waiters")

    def __init__(self, task: asyncio.Task[T]) -> None:
        self.task = task
        self.waiters = 0


def _retrieve(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # waiters may all have gone: nothing is to be logged then


class Shared(Generic[T]):
    """Memoises a call. It is cancelled when its last waiter is, and may then run again."""

    __slots__ = ("_run", "_start")

    def __init__(self, start: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._start = start
        self._run: _Run[T] | None = None

    @property
    def is_started(self) -> bool:
        return self._run is not None

    @property
    def is_done(self) -> bool:
        """Whether there is a value, or a failure that will stay."""
        return self._run is not None and self._run.task.done() and not self._run.task.cancelled()

    async def get(self) -> T:
        """Wait for the value, starting the work when nobody has; failures are memoised too."""
        run = self._run
        if run is None:
            task = asyncio.create_task(self._start())
            task.add_done_callback(_retrieve)
            run = self._run = _Run(task)
        task = run.task
        if not task.done():
            run.waiters += 1
            try:
                await asyncio.wait((task,))
            except asyncio.CancelledError:
                if run.waiters == 1 and not task.done():
                    await self.stop()
                raise
            finally:
                run.waiters -= 1
        if task.cancelled():
            if self._run is run:
                self._run = None
            raise asyncio.CancelledError
        return task.result()

    async def stop(self) -> None:
        """Cancel a run and wait for its end; what is complete stays."""
        run = self._run
        if run is not None and not run.task.done():
            self._run = None
            run.task.cancel()
            await asyncio.wait((run.task,))


async def run_all(calls: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
    """Await all at once; the first failure cancels the others and is raised when they ended."""

    async def call(function: Callable[[], Awaitable[T]]) -> T:
        return await function()

    functions = list(calls)
    if len(functions) == 1:
        return [await functions[0]()]
    tasks = [asyncio.create_task(call(function)) for function in functions]
    if not tasks:
        return []
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task in done and not task.cancelled() and task.exception() is not None:
                task.result()
        return [task.result() for task in tasks]
    finally:
        rest = [task for task in tasks if not task.done()]
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest)
        for task in tasks:
            _retrieve(task)
