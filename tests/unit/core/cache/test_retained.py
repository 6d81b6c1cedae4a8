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
    store: Store, key: str = "k", *, base: ImmutableRef | None = None, wait: bool = True
) -> MutableRef | None:
    return await store.refs.retained(key, description="cache mount", base=base, wait=wait)


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
