"""Stacks of refs: what keeps what, and which blobs they have."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable

import pytest
from tests.unit.core.cache.stores import Store

from torana.core.cache.layers import LayerForm, LayerStore
from torana.core.cache.policy import GCPolicy
from torana.core.errors import NotFoundError
from torana.core.oci.digest import Digest
from torana.core.snapshots.snapshotter import LayerOf

GZIP = LayerForm()


@pytest.fixture
def layers(store: Store) -> LayerStore:
    return LayerStore(store.refs, store.content)


async def test_unchanged_layers_keep_their_digests(store: Store, layers: LayerStore) -> None:
    a = await store.commit(await store.commit(size=1), size=2)
    b = await store.commit(size=3)
    merged = await store.refs.stack([*a.layers, *b.layers], description="merge")
    of_a, of_b = await layers.layers(a, GZIP), await layers.layers(b, GZIP)
    assert await layers.layers(merged, GZIP) == [*of_a, *of_b]
    again = await store.refs.stack([*b.layers, *merged.layers])
    assert await layers.layers(again, GZIP) == [*of_b, *of_a, *of_b]


async def test_a_computed_layer(store: Store, layers: LayerStore) -> None:
    lower, upper = await store.commit(), await store.commit()
    changed = await store.refs.stack([LayerOf(upper.id, lower.id, "diff")])
    gone = await store.refs.stack([LayerOf(None, lower.id, "gone")])
    (one,), (other,) = await layers.layers(changed, GZIP), await layers.layers(gone, GZIP)
    assert (one.description, other.description) == ("diff", "gone")

    def names(digest: str) -> list[str]:
        data = store.content.read(Digest(digest))
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            return archive.getnames()

    assert sorted(names(one.descriptor.digest)) == sorted([f".wh.{lower.id}", upper.id])
    assert names(other.descriptor.digest) == [f".wh.{lower.id}"]
    merged = await store.refs.stack([*lower.layers, *changed.layers])
    assert (await layers.layers(merged, GZIP))[1] == one


async def test_a_stack_keeps_what_it_is_made_of(
    store: Store, open_store: Callable[[], Store]
) -> None:
    base = await store.commit()
    a, b = await store.commit(base), await store.commit()
    merged = await store.refs.stack([*a.layers, LayerOf(b.id, base.id)])
    for ref in (base, a, b):
        await ref.release()
    store.refs.lease.settle()
    record = store.refs.records.get(merged.id)
    assert record is not None
    assert set(record.parents) == {a.id, b.id}  # and `a` keeps `base`
    other = open_store()
    other.upkeep.prune([GCPolicy(is_all=True)])
    assert {r.id for r in other.refs.records.all()} == {base.id, a.id, b.id, merged.id}
    with merged.mount() as root:
        assert sorted(path.name for path in root.iterdir()) == sorted([a.id, b.id])
    await merged.release()
    store.refs.lease.settle()
    other.upkeep.prune([GCPolicy(is_all=True)])
    assert other.refs.records.all() == []
    with pytest.raises(NotFoundError):
        store.refs.find(merged.id)


async def test_another_process_finds_it(store: Store, open_store: Callable[[], Store]) -> None:
    a, b = await store.commit(), await store.commit()
    merged = await store.refs.stack([*a.layers, *b.layers])
    other = open_store()
    found = other.refs.find(merged.id)
    assert found.layers == merged.layers
    assert found.parent is None
    child = await other.commit(found)
    assert child.layers == (*merged.layers, LayerOf(child.id, merged.id))
    with child.mount() as root:
        assert len(list(root.iterdir())) == 3
