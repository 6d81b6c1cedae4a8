"""`Stopper`: ends a frontend that used up its time, and finds out what it was doing.

The kernel, or the engine, sends SIGXCPU. Python code is interrupted on the line where it is; a
frontend that waits is cancelled where it waits.
"""

from __future__ import annotations

import asyncio
import inspect
import resource
import signal
import time
import traceback
from types import FrameType, TracebackType
from typing import Any, Final, Self

from torana.core.errors import ToranaError
from torana.gateway.runners.crashes import cpu_limit, idle_limit
from torana.gateway.runners.limits import Limits
from torana.plugins.loading import place_in

_GRACE_CPU_S: Final = 2  # for telling of the limit
_COROUTINES: Final = (
    inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE
)


class _StoppedError(BaseException):
    """Interrupts code of a frontend; not an `Exception`, which it would catch."""


class Stopper:
    """While entered, SIGXCPU ends the current task; `error` says why, once that has happened.

    With `limits` the processor time is limited from then on, and for good.
    """

    def __init__(self, described: str, limits: Limits | None) -> None:
        self._described = described
        self._is_limited = limits is not None
        self._limits = limits or Limits()
        self.error: ToranaError | None = None

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[Any] | None = asyncio.current_task()
        signal.signal(signal.SIGXCPU, self._stop)
        self._started_cpu_s = time.process_time()
        if self._is_limited:
            soft = int(self._started_cpu_s) + 1 + self._limits.cpu_s
            _, hard = resource.getrlimit(resource.RLIMIT_CPU)
            if hard == resource.RLIM_INFINITY:
                hard = soft + _GRACE_CPU_S
            resource.setrlimit(resource.RLIMIT_CPU, (min(soft, hard), hard))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.signal(signal.SIGXCPU, signal.SIG_IGN)
        if self.error is not None and self._task is not None:
            while self._task.cancelling():
                self._task.uncancel()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        running = asyncio.current_task(self._loop)
        frames = _waiting_in(self._task)
        if running is not None:  # perhaps inside of asyncio: then where the task waits says more
            frames += traceback.extract_stack(frame)
        used_s = time.process_time() - self._started_cpu_s
        made = cpu_limit if self._is_limited and used_s >= self._limits.cpu_s else idle_limit
        self.error = made(self._described, place_in(frames), self._limits)
        can_raise = running is not None and not _is_in_asyncio(frame)
        if self._task is not None and not (can_raise and running is self._task):
            self._loop.call_soon_threadsafe(self._task.cancel)
        if can_raise:
            raise _StoppedError


def _is_in_asyncio(frame: FrameType | None) -> bool:
    """Say whether asyncio itself is at work; a task interrupted there would never end."""
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("asyncio."):
            return True
        if frame.f_code.co_flags & _COROUTINES:
            return False
        frame = frame.f_back
    return False


def _waiting_in(task: asyncio.Task[Any] | None) -> list[traceback.FrameSummary]:
    """Give the lines where a task waits, outermost first."""
    found: list[traceback.FrameSummary] = []
    waiting: Any = None if task is None else task.get_coro()
    while (frame := getattr(waiting, "cr_frame", None)) is not None:
        found += traceback.extract_stack(frame, limit=1)
        waiting = getattr(waiting, "cr_await", None)
    return found
