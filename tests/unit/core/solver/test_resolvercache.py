"""What names were resolved to. Number 73 of the solver reference, section 15."""

from __future__ import annotations

import asyncio

import pytest

from torana.core.solver.resolvercache import CombinedResolverCache, ResolverCache


async def test_scenario_73_access_is_serial_per_key() -> None:
    cache = ResolverCache()
    inside: list[int] = []
    seen: list[tuple[object, ...]] = []

    async def look_up(number: int) -> None:
        async with cache.lock("key") as lookup:
            assert not inside
            inside.append(number)
            await asyncio.sleep(0)
            seen.append(lookup.values)
            lookup.answer = number
            inside.pop()

    await asyncio.gather(*(look_up(number) for number in range(3)))
    assert seen == [(), (0,), (0, 1)]
    assert not cache._locks


async def test_scenario_73_keys_are_independent() -> None:
    cache = ResolverCache()
    async with asyncio.timeout(5), cache.lock("a"), cache.lock("b") as lookup:
        assert lookup.values == ()


async def test_scenario_73_nothing_is_added_without_an_answer_or_on_failure() -> None:
    cache = ResolverCache()
    async with cache.lock("key"):
        pass
    with pytest.raises(ValueError, match="failed"):
        async with cache.lock("key") as lookup:
            lookup.answer = 1
            raise ValueError("failed")
    async with cache.lock("key") as lookup:
        assert lookup.values == ()


async def test_scenario_73_combined_caches_share_answers() -> None:
    first, second = ResolverCache(), ResolverCache()
    async with first.lock("key") as lookup:
        lookup.answer = "old"
    async with CombinedResolverCache([second, first]).lock("key") as lookup:
        assert lookup.values == ("old",)
        lookup.answer = "new"
    for cache, values in ((first, ("old", "new")), (second, ("new",))):
        async with cache.lock("key") as lookup:
            assert lookup.values == values
    async with CombinedResolverCache([first, second]).lock("key") as lookup:
        assert lookup.values == ("old", "new")


async def test_scenario_73_combined_caches_roll_back() -> None:
    first, second = ResolverCache(), ResolverCache()
    combined = CombinedResolverCache([first, second])
    with pytest.raises(ValueError, match="failed"):
        async with combined.lock("key") as lookup:
            lookup.answer = 1
            raise ValueError("failed")
    async with second.lock("key"):
        task = asyncio.create_task(_enter(combined))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(5), first.lock("key") as lookup:
            assert lookup.values == ()
    assert not first._locks
    assert not second._locks


async def _enter(cache: CombinedResolverCache) -> None:
    async with cache.lock("key"):
        pytest.fail("the key was locked twice")


async def test_opposite_orders_do_not_deadlock() -> None:
    first, second = ResolverCache(), ResolverCache()

    async def look_up(*caches: ResolverCache) -> None:
        async with CombinedResolverCache(caches).lock("key"):
            await asyncio.sleep(0)

    async with asyncio.timeout(5):
        await asyncio.gather(
            *(look_up(first, second) for _ in range(5)), *(look_up(second, first) for _ in range(5))
        )
