"""Which records go, and which stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from tests.unit.core.cache.stores import Store

from torana.core.cache.filters import InvalidFilterError
from torana.core.cache.policy import GCPolicy
from torana.core.cache.prune import worst
from torana.core.cache.ref import ImmutableRef, RecordType
from torana.core.cache.usage import UsageRecord
from torana.core.database import pack
from torana.core.oci.descriptor import Descriptor

EVERYTHING = GCPolicy()


async def release(*refs: ImmutableRef) -> list[str]:
    for ref in refs:
        await ref.release()
    return [ref.id for ref in refs]


def ids(records: Sequence[UsageRecord]) -> list[str]:
    return [record.id for record in records]


def age(store: Store, **last_used: float) -> None:
    """Set the last use, by description."""
    for record in store.refs.records.all():
        if record.description in last_used:
            store.database.execute(
                "UPDATE ref_records SET last_used = ? WHERE id = ?",
                (last_used[record.description], record.id),
            )


async def test_everything_goes_children_first(store: Store) -> None:
    base = await store.commit()
    child = await store.commit(base)
    wanted = await release(child, base)
    assert ids(store.upkeep.prune([EVERYTHING])) == wanted
    assert list(store.snapshots.names()) == []
    assert list((store.root / "snapshots" / "trash").iterdir()) == []


async def test_what_another_process_holds_stays_with_its_parents(
    open_store: Callable[[], Store],
) -> None:
    builder, collector = open_store(), open_store()
    base = await builder.commit()
    child = await builder.commit(base)
    free = await builder.commit(base)
    await release(base, free)
    builder.refs.lease.settle()
    assert ids(collector.upkeep.prune([EVERYTHING])) == [free.id]
    usage = collector.upkeep.disk_usage()
    assert {(each.id, each.is_in_use) for each in usage} == {(base.id, True), (child.id, True)}
    await release(child)
    builder.refs.lease.settle()
    assert len(collector.upkeep.prune([EVERYTHING])) == 2


async def test_a_hold_that_comes_while_pruning_is_honoured(open_store: Callable[[], Store]) -> None:
    builder, collector = open_store(), open_store()
    one, two = await builder.commit(), await builder.commit()
    await release(one, two)
    builder.refs.lease.settle()
    taken: list[ImmutableRef] = []

    def take(record: UsageRecord) -> None:
        other = two if record.id == one.id else one
        taken.append(builder.refs.find(other.id))

    deleted = collector.upkeep.prune([EVERYTHING], take)
    assert len(deleted) == len(taken) == 1
    with taken[0].mount() as path:
        assert len(list(path.iterdir())) == 1


async def test_a_new_ref_keeps_its_parent(open_store: Callable[[], Store]) -> None:
    builder, collector = open_store(), open_store()
    base = await builder.commit()
    new = await builder.refs.new_mutable(base)
    await release(base)
    builder.refs.lease.settle()
    assert collector.upkeep.prune([EVERYTHING]) == []
    child = await new.commit()
    assert child.parent is not None
    assert child.parent.id == base.id


async def test_internal_and_frontend_records_need_all(store: Store) -> None:
    for kind in (RecordType.INTERNAL, RecordType.FRONTEND, RecordType.REGULAR):
        await release(await store.commit(record_type=kind))
    assert [r.record_type for r in store.upkeep.prune([EVERYTHING])] == [RecordType.REGULAR]
    assert len(store.upkeep.prune([GCPolicy(is_all=True)])) == 2


async def test_filters_and_age(store: Store) -> None:
    for name in ("old", "new", "other"):
        await release(await store.commit(description=name))
    age(store, old=5.0, other=5.0)
    policy = GCPolicy(filters=("description==old", "description==new"), keep_duration_s=60)
    assert [record.description for record in store.upkeep.prune([policy])] == ["old"]


def test_a_wrong_filter_deletes_nothing(store: Store) -> None:
    with pytest.raises(InvalidFilterError):
        store.upkeep.prune([EVERYTHING, GCPolicy(filters=("id=x",))])


async def test_space_limits_delete_the_least_missed_until_small_enough(store: Store) -> None:
    for name in ("a", "b", "c", "d"):
        await release(await store.commit(size=100, description=name))
    age(store, a=1.0, b=2.0, c=3.0, d=4.0)
    total = sum(record.size_bytes for record in store.upkeep.disk_usage())
    policy = GCPolicy(max_used_bytes=total * 3 // 5)
    assert [record.description for record in store.upkeep.prune([policy])] == ["a", "b"]
    assert store.upkeep.prune([policy]) == []
    policy = GCPolicy(max_used_bytes=1, reserved_bytes=total * 2 // 5)
    assert [record.description for record in store.upkeep.prune([policy])] == ["c"]


async def test_min_free_that_is_met_deletes_nothing(store: Store) -> None:
    await release(await store.commit())
    assert store.upkeep.prune([GCPolicy(min_free_bytes=1)]) == []
    assert len(store.upkeep.prune([GCPolicy(min_free_bytes=1 << 60)])) == 1


async def test_policies_apply_in_order(store: Store) -> None:
    await release(await store.commit(record_type=RecordType.LOCAL, description="a"))
    await release(await store.commit(description="b"))
    policies = [GCPolicy(filters=("type==source.local",)), EVERYTHING]
    assert [record.description for record in store.upkeep.prune(policies)] == ["a", "b"]


async def test_layers_of_named_images_are_shared(store: Store) -> None:
    base = await store.commit(description="base")
    child = await store.commit(base, description="child")
    other = await store.commit(base, description="other")
    layer = store.content.add(b"a layer")
    value = pack({"digest": layer, "size": 7, "diff_id": layer})
    store.database.execute("INSERT INTO layers VALUES (?, 'x', ?)", (child.id, value))
    manifest = store.content.add(b'{"layers": [{"digest": "%s"}]}' % layer.encode())
    store.images.set("app", Descriptor(media_type="x", digest=manifest, size=1))
    await release(child, other, base)
    store.refs.lease.settle()
    shown = {record.description: record.is_shared for record in store.upkeep.disk_usage()}
    assert shown == {"base": True, "child": True, "other": False}
    assert [record.description for record in store.upkeep.prune([EVERYTHING])] == ["other"]
    assert store.content.exists(layer)
    assert len(store.upkeep.prune([GCPolicy(is_all=True)])) == 2
    assert store.content.exists(layer)  # the image's
    store.images.remove("app")
    store.upkeep.prune([EVERYTHING])
    assert list(store.content.digests()) == []


async def test_blobs_in_use_stay(open_store: Callable[[], Store]) -> None:
    builder, collector = open_store(), open_store()
    with builder.refs.lease.build():
        blob = builder.content.add(b"blob")
        collector.upkeep.prune([EVERYTHING])
        assert builder.content.exists(blob)
    collector.upkeep.prune([EVERYTHING])
    assert not builder.content.exists(blob)


async def test_a_blob_that_was_used_while_the_collector_looked_stays(
    open_store: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    builder, collector = open_store(), open_store()
    with builder.refs.lease.build():
        blob = builder.content.add(b"blob")
    looked = collector.images.all

    def look() -> list[object]:
        with builder.refs.lease.build():
            assert builder.content.use(blob)
        return list(looked())

    monkeypatch.setattr(collector.images, "all", look)
    collector.upkeep.prune([EVERYTHING])
    assert builder.content.exists(blob)


async def test_only_one_prunes_at_a_time(open_store: Callable[[], Store]) -> None:
    one, two = open_store(), open_store()
    await release(await one.commit(), await one.commit())
    one.refs.lease.settle()
    inner: list[UsageRecord] = []

    def again(record: UsageRecord) -> None:
        inner.extend(two.upkeep.prune([EVERYTHING], is_waiting=False))

    assert len(one.upkeep.prune([EVERYTHING], again)) == 2
    assert inner == []


def usage(id: str, last_used: float, count: int) -> UsageRecord:
    return UsageRecord(
        id=id,
        is_mutable=False,
        is_in_use=False,
        is_shared=False,
        size_bytes=1,
        parents=(),
        description="",
        record_type=RecordType.REGULAR,
        created=0,
        last_used=last_used,
        usage_count=count,
    )


def test_the_worst_is_old_and_rarely_used() -> None:
    # Ranks: times 1, 2, 3 of 3; counts 2, 1, 1 of 2.
    records = [usage("old", 1, 9), usage("middle", 2, 1), usage("new", 3, 1)]
    assert worst(records).id == "middle"  # 2/3 + 1/2 < 1/3 + 2/2
    assert worst(records[::2]).id == "old"  # 1/2 + 2/2 = 2/2 + 1/2: the older one
