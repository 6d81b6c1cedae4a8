from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from torana.core.llb.ops import CacheSharing
from torana.core.ops.exec.caches import CacheMounts, CacheRequest


class Ref:
    def __init__(self, store: Store, key: str) -> None:
        self.store = store
        self.key = key

    @contextmanager
    def mount(self) -> Iterator[Path]:
        self.store.mounts += 1
        yield Path(self.key)
        self.store.mounts -= 1

    async def release(self) -> None:
        self.store.held.remove(self.key)


class Store:
    def __init__(self) -> None:
        self.held: list[str] = []
        self.mounts = 0
        self.fails = False

    async def retained(self, key: str, *, wait: bool, **_: object) -> Ref | None:
        if self.fails:
            raise OSError("disk full")
        while key in self.held:
            if not wait:
                return None
            await asyncio.sleep(0)
        self.held.append(key)
        return Ref(self, key)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def caches(store: Store) -> CacheMounts:
    return CacheMounts(cast("Any", store))


def request_of(sharing: CacheSharing) -> CacheRequest:
    return CacheRequest("k", sharing, "")


async def test_shared_is_mounted_once(caches: CacheMounts, store: Store) -> None:
    shared = request_of(CacheSharing.SHARED)
    async with caches.use(shared) as first, caches.use(shared) as second:
        assert first == second == Path("k")
        assert (store.held, store.mounts) == (["k"], 1)
    assert (store.held, store.mounts) == ([], 0)


async def test_shared_waits_for_locked(caches: CacheMounts, store: Store) -> None:
    order: list[str] = []

    async def share() -> None:
        async with caches.use(request_of(CacheSharing.SHARED)):
            order.append("shared")

    async with asyncio.TaskGroup() as group:
        async with caches.use(request_of(CacheSharing.LOCKED)):
            group.create_task(share())
            await asyncio.sleep(0.01)
            order.append("locked")
    assert order == ["locked", "shared"]
    assert store.held == []


async def test_waiting_can_be_cancelled(caches: CacheMounts, store: Store) -> None:
    for sharing in (CacheSharing.SHARED, CacheSharing.LOCKED):
        async with caches.use(request_of(CacheSharing.LOCKED)):
            waiting = asyncio.create_task(caches.use(request_of(sharing)).__aenter__())
            await asyncio.sleep(0.01)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert store.held == []
    async with caches.use(request_of(CacheSharing.SHARED)):
        assert store.held == ["k"]


async def test_private_takes_the_first_free_one(caches: CacheMounts, store: Store) -> None:
    private = request_of(CacheSharing.PRIVATE)
    async with caches.use(private) as first, caches.use(private) as second:
        async with caches.use(private) as third:
            assert [first, second, third] == [Path("k"), Path("k:1"), Path("k:2")]
        async with caches.use(private) as again:
            assert again == third


async def test_failure_is_not_remembered(caches: CacheMounts, store: Store) -> None:
    store.fails = True
    with pytest.raises(OSError, match="disk full"):
        async with caches.use(request_of(CacheSharing.SHARED)):
            pass
    store.fails = False
    async with caches.use(request_of(CacheSharing.SHARED)):
        assert store.mounts == 1
