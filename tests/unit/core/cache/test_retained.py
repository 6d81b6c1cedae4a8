"""Cache mounts: found again by key, one holder at a time, collected when unused."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.core.cache.stores import Store

from torana.core.cache.policy import GCPolicy
from torana.core.cache.ref import ImmutableRef, MutableRef
from torana.core.errors import UnsupportedError


async def opened(
    store: Store,
    key: str = "k",
    *,
    base: ImmutableRef | None = None,
    wait: bool = True,
    is_shared: bool = False,
) -> MutableRef | None:
    return await store.refs.retained(
        key, description="cache mount", base=base, wait=wait, is_shared=is_shared
    )


async def write(store: Store, name: str, key: str = "k") -> str:
    ref = await opened(store, key)
    assert ref is not None
    with ref.mount() as path:
        (path / name).write_text(name)
    await ref.release()
    store.refs.lease.settle()
    return ref.id


async def names(store: Store, key: str = "k") -> set[str]:
    ref = await opened(store, key)
    assert ref is not None
    with ref.mount() as path:
        found = {entry.name for entry in path.iterdir()}
    await ref.release()
    return found


async def test_it_is_found_again_by_its_key(open_store: Callable[[], Store]) -> None:
    one, two = open_store(), open_store()
    await write(one, "a")
    await write(two, "b")
    await write(two, "c", key="other")
    assert await names(one) == {"a", "b"}


async def test_it_begins_as_its_base_once(store: Store) -> None:
    base = await store.commit()
    ref = await opened(store, base=base)
    assert ref is not None
    with ref.mount() as path:
        assert len(list(path.iterdir())) == 1
        shutil.rmtree(path / next(path.iterdir()), ignore_errors=True)
        for entry in path.iterdir():
            entry.unlink()
    await ref.release()
    again = await opened(store, base=base)
    assert again is not None
    with again.mount() as path:
        assert list(path.iterdir()) == []
    await again.release()


async def test_one_holder_at_a_time(open_store: Callable[[], Store]) -> None:
    one, two = open_store(), open_store()
    held = await opened(one)
    assert held is not None
    assert await opened(two, wait=False) is None
    waiting = asyncio.create_task(opened(two))
    await asyncio.sleep(0.02)
    assert not waiting.done()
    await held.release()
    await held.release()
    second = await waiting
    assert second is not None
    assert second.id == held.id
    await second.release()


async def test_sharers_are_in_at_once(open_store: Callable[[], Store]) -> None:
    one, two, three = open_store(), open_store(), open_store()
    first, second = await opened(one, is_shared=True), await opened(two, is_shared=True)
    assert first is not None and second is not None
    assert first.id == second.id
    assert await opened(three, wait=False) is None
    alone = asyncio.create_task(opened(three))
    await asyncio.sleep(0.03)
    assert not alone.done()
    assert await opened(two, wait=False, is_shared=True) is None, "passes by who waits already"
    late = asyncio.create_task(opened(two, is_shared=True))
    await first.release()
    await second.release()
    third = await alone
    assert third is not None
    await asyncio.sleep(0.03)
    assert not late.done()
    await third.release()
    fourth = await late
    assert fourth is not None
    await fourth.release()


async def test_sharers_make_one(open_store: Callable[[], Store]) -> None:
    stores = [open_store() for _ in range(6)]
    refs = await asyncio.gather(*(opened(store, is_shared=True) for store in stores))
    assert len({ref.id for ref in refs if ref is not None}) == 1
    for ref in refs:
        assert ref is not None
        await ref.release()


async def test_who_waits_and_is_cancelled_is_in_nobody_s_way(store: Store) -> None:
    held = await opened(store, is_shared=True)
    waiting = asyncio.create_task(opened(store))
    await asyncio.sleep(0.02)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    again = await opened(store, wait=False, is_shared=True)
    assert held is not None and again is not None
    await held.release()
    await again.release()
    alone = await opened(store, wait=False)
    assert alone is not None
    await alone.release()


async def test_forgetting(open_store: Callable[[], Store]) -> None:
    builder, other = open_store(), open_store()
    await write(builder, "a", key="unused")
    await write(builder, "a", key="spared")
    held = await opened(builder, "used")
    assert held is not None
    await other.refs.forget_retained(lambda key: key != "spared")
    with held.mount() as path:
        (path / "still").touch()
    await held.release()
    assert await names(builder, "unused") == await names(builder, "used") == set()
    assert await names(builder, "spared") == {"a"}
    builder.refs.lease.settle()
    assert other.upkeep.check() == []
    other.upkeep.prune([GCPolicy()])
    other.refs.sweep()
    assert list((builder.root / "cachemounts").iterdir()) == []


async def test_it_is_a_record_like_others(store: Store) -> None:
    id = await write(store, "a")
    (usage,) = store.upkeep.disk_usage(["type==exec.cachemount,mutable"])
    assert (usage.id, usage.is_in_use, usage.description) == (id, False, "cache mount")
    assert usage.usage_count == 2  # made, and given back
    ref = await opened(store)
    assert ref is not None
    (usage,) = store.upkeep.disk_usage()
    assert (usage.is_in_use, usage.size_bytes) == (True, 0)
    with ref.mount() as path:
        (path / "big").write_bytes(b"x" * 100_000)
    await ref.release()
    (usage,) = store.upkeep.disk_usage()
    assert usage.size_bytes >= 100_000


async def test_pruning_takes_what_nobody_uses(open_store: Callable[[], Store]) -> None:
    builder, collector = open_store(), open_store()
    await write(builder, "unused", key="unused")
    held = await opened(builder)
    assert held is not None
    with held.mount() as path:
        (path / "a").touch()
    assert len(collector.upkeep.prune([GCPolicy()])) == 1
    with held.mount() as path:
        assert (path / "a").exists()
    await held.release()
    builder.refs.lease.settle()
    collector.upkeep.prune([GCPolicy()])
    assert await names(builder) == set()  # a new one
    assert await names(builder, "unused") == set()


async def test_one_without_its_folder_is_made_anew(store: Store) -> None:
    id = await write(store, "a")
    shutil.rmtree(store.root / "cachemounts" / id)
    assert [str(finding) for finding in store.upkeep.check()] == [f"record without data: {id}"]
    assert await names(store) == set()
    assert store.upkeep.check() == []


async def test_a_base_that_cannot_be_copied_leaves_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = await store.commit()

    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torana.core.cache.retained.copy_tree", fail)
    with pytest.raises(OSError, match="No space"):
        await opened(store, base=base)
    monkeypatch.undo()
    assert store.refs.records.ids() == [base.id]
    store.refs.lease.settle()
    store.refs.sweep()
    assert not [path for path in Path(store.root / "cachemounts").iterdir()]
    assert await names(store) == set()


async def test_it_cannot_be_committed(store: Store) -> None:
    ref = await opened(store)
    assert ref is not None
    with pytest.raises(UnsupportedError):
        await ref.commit()
    await ref.release()
