"""How many processes of frontends wait for builds, and how long."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest

from torana.gateway.runners.waiting import WaitingRoom
from torana.gateway.runners.workers import FrontendWorker


class FakeWorker:
    """Counts how often it is stopped."""

    def __init__(self) -> None:
        self.stops = 0

    async def stop(self) -> int:
        self.stops += 1
        return 0


class FakeTimers:
    """Keeps what is to happen later; `pass_time` lets it happen."""

    def __init__(self) -> None:
        self.pending: list[FakeTimer] = []

    def __call__(self, delay: float, callback: Callable[..., Any], *args: Any) -> FakeTimer:
        assert delay == 60
        self.pending.append(FakeTimer(self, partial(callback, *args)))
        return self.pending[-1]

    def pass_time(self) -> None:
        for timer in list(self.pending):
            timer.cancel()
            timer.callback()


class FakeTimer:
    def __init__(self, timers: FakeTimers, callback: Callable[..., Any]) -> None:
        self._timers = timers
        self.callback = callback

    def cancel(self) -> None:
        if self in self._timers.pending:
            self._timers.pending.remove(self)


@pytest.fixture
def timers() -> FakeTimers:
    return FakeTimers()


@pytest.fixture
def room(timers: FakeTimers) -> WaitingRoom:
    return WaitingRoom(most=2, longest_s=60, call_later=timers)


def worker() -> FrontendWorker:
    return cast(FrontendWorker, FakeWorker())


def stops(*workers: FrontendWorker) -> list[int]:
    return [cast(FakeWorker, each).stops for each in workers]


async def test_the_longest_waiting_makes_room(room: WaitingRoom, timers: FakeTimers) -> None:
    one, two, three = worker(), worker(), worker()
    for owner, each in (("a", one), ("b", two), ("c", three)):
        await room.enter(owner, "key", each)
    assert stops(one, two, three) == [1, 0, 0]
    assert room.waiting() == [two, three]
    assert len(timers.pending) == 2


async def test_none_waits_for_ever(room: WaitingRoom, timers: FakeTimers) -> None:
    one, two = worker(), worker()
    await room.enter("a", "key", one)
    await room.enter("a", "key", two)
    assert room.call("a", "key") is two  # which builds: no time passes for it
    timers.pass_time()
    assert room.waiting() == []
    await room.dismiss("a")
    assert stops(one, two) == [1, 0]
    await room.enter("a", "key", two)
    timers.pass_time()
    await room.dismiss("b")  # an end of anybody sees all ends
    assert stops(one, two) == [1, 1]


async def test_a_worker_is_called_by_its_owner_alone(room: WaitingRoom) -> None:
    one, two = worker(), worker()
    await room.enter("a", "key", one)
    await room.enter("b", "key", two)
    assert room.call("a", "other") is None
    assert room.call("c", "key") is None
    await room.dismiss("b")
    assert stops(one, two) == [0, 1]
    assert room.call("a", "key") is one
    assert room.call("a", "key") is None
