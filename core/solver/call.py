"""`SharedCall`: one run of some work for many pipes.

What it gave, or failed with, is kept. It is cancelled when its last pipe is, and may then run
again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from torana.core.solver.pipe import Pipe

T = TypeVar("T")
Start = Callable[[], Coroutine[Any, Any, T]]


class SharedCall(Generic[T]):
    """A call that is made at most once, on demand."""

    __slots__ = ("_error", "_leaving", "_start", "_task", "_value", "_waiting", "is_done")

    def __init__(self) -> None:
        self.is_done = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._task: asyncio.Task[T] | None = None
        self._start: Start[T] | None = None
        self._waiting: list[Pipe] = []
        self._leaving: list[Pipe] = []

    def join(self, pipe: Pipe, start: Start[T]) -> None:
        """Answer `pipe` when there is a value or a failure; `start` is called if nothing runs."""
        if self.is_done:
            pipe.complete(self._value, self._error)
            return
        pipe.on_cancel = self._leave
        self._waiting.append(pipe)
        self._start = start
        if self._task is None:
            self._run()

    def _run(self) -> None:
        assert self._start is not None
        self._task = asyncio.get_running_loop().create_task(self._start())
        self._task.add_done_callback(self._end)

    def _leave(self, pipe: Pipe) -> None:
        self._waiting.remove(pipe)
        if self._waiting and not self._leaving:
            pipe.complete(error=asyncio.CancelledError())
            return
        # The last one waits for the end of the run, as do all who leave until then.
        self._leaving.append(pipe)
        if len(self._leaving) == 1:
            assert self._task is not None
            self._task.cancel()

    def _end(self, task: asyncio.Task[T]) -> None:
        leaving, self._leaving = self._leaving, []
        self._task = None
        error: BaseException | None
        if task.cancelled():
            error = asyncio.CancelledError()
        else:
            error = task.exception()
        if error is not None and leaving:
            # It was cancelled, however it put that: whoever has come since has it run again.
            if self._waiting:
                self._run()
        else:
            if error is None:
                self._value = task.result()
            self._error = error
            self.is_done = not isinstance(error, asyncio.CancelledError)
            waiting, self._waiting = self._waiting, []
            for pipe in waiting:
                pipe.complete(self._value, error)
        for pipe in leaving:
            pipe.complete(error=asyncio.CancelledError())
