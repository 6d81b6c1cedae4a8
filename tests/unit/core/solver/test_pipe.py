"""Pipes and shared calls. Numbers are those of the solver reference, section 15."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from torana.core.solver.call import SharedCall
from torana.core.solver.pipe import Pipe


def test_scenario_71() -> None:
    news: list[tuple[Any, bool, bool]] = []
    cancelled: list[Pipe] = []
    pipe = Pipe(
        on_news=lambda each: news.append((each.value, each.is_completed, each.is_cancelled)),
        on_cancel=cancelled.append,
    )
    pipe.update(1)
    pipe.update(2)
    pipe.cancel()
    pipe.cancel()
    assert cancelled == [pipe]
    pipe.complete(3)
    assert news == [(1, False, False), (2, False, False), (3, True, True)]
    pipe.cancel()
    assert cancelled == [pipe]
    with pytest.raises(AssertionError, match="answer was given twice"):
        pipe.update(4)
    with pytest.raises(AssertionError, match="answer was given twice"):
        pipe.complete(4)


class Work:
    """A call that ends when it is told to."""

    def __init__(self) -> None:
        self.starts = 0
        self.cancelled = 0
        self.is_stubborn = False
        self.end = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.starts += 1
        number = self.starts
        try:
            await self.end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            if not self.is_stubborn:
                raise
        if self.error is not None:
            raise self.error
        return number


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_call_is_made_once_and_kept() -> None:
    work, call = Work(), SharedCall[int]()
    pipes = [Pipe() for _ in range(3)]
    call.join(pipes[0], work)
    call.join(pipes[1], work)
    await settle()
    work.end.set()
    await settle()
    call.join(pipes[2], work)
    assert [pipe.value for pipe in pipes] == [1, 1, 1]
    assert work.starts == 1


async def test_failure_is_kept() -> None:
    work, call = Work(), SharedCall[int]()
    work.error = OSError("broken")
    work.end.set()
    first, second = Pipe(), Pipe()
    call.join(first, work)
    await settle()
    call.join(second, work)
    assert first.error is second.error is work.error
    assert work.starts == 1


async def test_call_ends_with_its_last_pipe_and_can_run_again() -> None:
    work, call = Work(), SharedCall[int]()
    first, second, third = Pipe(), Pipe(), Pipe()
    call.join(first, work)
    call.join(second, work)
    await settle()
    first.cancel()
    assert isinstance(first.error, asyncio.CancelledError)
    assert work.cancelled == 0
    second.cancel()
    assert not second.is_completed, "it waits for the end of what ran for it"
    call.join(third, work)
    await settle()
    assert (second.is_completed, work.cancelled, work.starts) == (True, 1, 2)
    work.end.set()
    await settle()
    assert third.value == 2


async def test_value_in_spite_of_cancellation_is_kept() -> None:
    work, call = Work(), SharedCall[int]()
    work.is_stubborn = True
    first, second = Pipe(), Pipe()
    call.join(first, work)
    await settle()
    first.cancel()
    await settle()
    assert isinstance(first.error, asyncio.CancelledError)
    call.join(second, work)
    assert (second.value, work.starts) == (1, 1)


async def test_failure_of_a_cancelled_call_is_forgotten() -> None:
    work, call = Work(), SharedCall[int]()
    work.is_stubborn, work.error = True, OSError("interrupted")
    first, second, third = Pipe(), Pipe(), Pipe()
    call.join(first, work)
    await settle()
    first.cancel()
    call.join(second, work)
    second.cancel()
    call.join(third, work)
    await settle()
    assert isinstance(second.error, asyncio.CancelledError)
    work.error = None
    work.end.set()
    await settle()
    assert (third.value, work.starts) == (2, 2)
