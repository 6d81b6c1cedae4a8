"""The limit on work that runs at once."""

from __future__ import annotations

import asyncio

from tests.unit.core.solver.fakes import Gate

from torana.core.solver.slots import Slots


class Hold:
    """Holds a slot until it is told to end."""

    def __init__(self, slots: Slots, priority: float) -> None:
        self.end = asyncio.Event()
        self.is_held = False
        self.task = asyncio.create_task(self.run(slots, priority))

    async def run(self, slots: Slots, priority: float) -> None:
        async with slots.take(lambda: priority):
            self.is_held = True
            await self.end.wait()


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_highest_priority_is_first_then_who_came_first() -> None:
    slots = Slots(1)
    holds = [Hold(slots, priority) for priority in (0, 1, 5, 5, 3)]
    order = []
    for _ in holds:
        await settle()
        (held,) = [hold for hold in holds if hold.is_held and not hold.task.done()]
        order.append(holds.index(held))
        held.end.set()
        await held.task
    assert order == [0, 2, 3, 4, 1]
    assert slots.used == 0


async def test_cancelled_waiters_take_no_slot() -> None:
    slots = Slots(1)
    first, second, third = (Hold(slots, 0) for _ in range(3))
    await settle()
    second.task.cancel()
    first.end.set()
    await first.task
    await settle()
    assert third.is_held
    third.end.set()
    await third.task
    assert second.task.cancelled()
    assert slots.used == 0


async def test_slot_given_to_a_cancelled_waiter_is_passed_on() -> None:
    slots = Slots(1)
    first, second, third = (Hold(slots, 0) for _ in range(3))
    await settle()
    first.end.set()
    await asyncio.sleep(0)  # it ends, and the second has its turn, but does not know yet
    second.task.cancel()
    await settle()
    assert third.is_held
    third.end.set()
    await asyncio.wait([second.task, third.task])
    assert slots.used == 0


async def test_no_limit() -> None:
    slots = Slots(0)
    holds = [Hold(slots, 0) for _ in range(5)]
    await settle()
    assert all(hold.is_held for hold in holds)
    for hold in holds:
        hold.end.set()
        await hold.task


async def test_who_gives_back_may_have_it_granted_later() -> None:
    slots, gate = Slots(1), Gate()
    freed: list[int] = []

    async def hold() -> None:
        async with slots.take(lambda: 0, lambda: freed.append(1)):
            await gate()

    task = asyncio.create_task(hold())
    await gate.reached.wait()
    other = Hold(slots, 0)
    await settle()
    gate.opened.set()
    await task
    await settle()
    assert freed == [1]
    assert not other.is_held
    slots.grant()
    await settle()
    assert other.is_held
    other.end.set()
    await other.task
