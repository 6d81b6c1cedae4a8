from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
        self.shared: set[str] = set()
        self.mounts = 0
        self.fails = False
        self.forgotten: list[str] = []
        self.keys: list[str] = []

    async def retained(self, key: str, *, wait: bool, is_shared: bool, **_: object) -> Ref | None:
        if self.fails:
            raise OSError("disk full")
        while key in self.held and not (is_shared and key in self.shared):
            if not wait:
                return None
            await asyncio.sleep(0)
        self.held.append(key)
        (self.shared.add if is_shared else self.shared.discard)(key)
        return Ref(self, key)

    async def forget_retained(self, is_meant: Callable[[str], bool]) -> None:
        self.forgotten = [key for key in self.keys if is_meant(key)]


@dataclass
class Base:
    id: str


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def caches(store: Store) -> CacheMounts:
    return CacheMounts(cast("Any", store))


def request_of(sharing: CacheSharing) -> CacheRequest:
    return CacheRequest("k", sharing, "")


async def test_any_number_share(caches: CacheMounts, store: Store) -> None:
    shared = request_of(CacheSharing.SHARED)
    async with caches.use(shared) as first, caches.use(shared) as second:
        assert first == second == Path("cache-dir:k")
        assert store.held == ["cache-dir:k"] * 2
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


async def test_private_takes_the_first_free_one(caches: CacheMounts) -> None:
    private = request_of(CacheSharing.PRIVATE)
    async with caches.use(private) as first, caches.use(private) as second:
        async with caches.use(private) as third:
            keys = ["cache-dir:k", "cache-dir-1:k", "cache-dir-2:k"]
            assert [str(each) for each in (first, second, third)] == keys
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


async def test_no_id_is_the_key_of_something_else(caches: CacheMounts) -> None:
    """What else is retained has keys of its own: `git:...`, `local:...`, `image-layer:...`."""
    for id in ("git:https://host/private", "local:context", "cache-dir-1:k"):
        async with caches.use(CacheRequest(id, CacheSharing.SHARED, "")) as path:
            assert path == Path(f"cache-dir:{id}")


async def test_emptying(caches: CacheMounts, store: Store) -> None:
    based = CacheRequest("k", CacheSharing.SHARED, "", cast("Any", Base("b1")))
    async with caches.use(based) as path:
        assert str(path) == "cache-dir:k:b1"
    plain = ["cache-dir:k", "cache-dir-1:k", "cache-dir-12:k"]
    with_base = ["cache-dir:k:b1", "cache-dir-3:k:b2"]
    others = ["cache-dir:kk", "cache-dir-:k", "git:k", "cache-dir:x:k", "cache-dir:cache-dir:k"]
    store.keys = [*plain, *with_base, *others]
    await caches.empty({"k": False})
    assert store.forgotten == plain
    await caches.empty({"k": True, "y": False})
    assert store.forgotten == with_base
