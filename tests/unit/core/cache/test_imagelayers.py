"""Layers of images: made when needed, known again, by other processes too."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from concurrent.futures import Future

import pytest
from tests.unit.core.cache.stores import Store

from torana.core.cache.imagelayers import ImageLayer, ImageLayers, chain_ids, read_origin
from torana.core.cache.layers import LayerForm, LayerStore
from torana.core.cache.pending import PendingRef
from torana.core.cache.policy import GCPolicy
from torana.core.cache.ref import ImmutableRef
from torana.core.errors import CorruptError
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest
from torana.core.snapshots.snapshotter import LayerOf


def tar(*names: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    return packed.getvalue()


DATA = [tar("a"), tar("b"), tar(".wh.a", "c")]
LAYERS = [
    ImageLayer(
        blob=Descriptor(media_type="x", digest=Digest.of(data), size=len(data)),
        diff_id=Digest.of(data),
    )
    for data in DATA
]


class Provider:
    """Has the layers, and counts what is fetched."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.fetched: list[Digest] = []

    def fetch(self, blob: Descriptor) -> Future[None]:
        self.fetched.append(blob.digest)
        self._store.content.add(next(d for d in DATA if Digest.of(d) == blob.digest))
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def extracting(self, blob: Descriptor, *, done: bool) -> None: ...

    def stop(self) -> None: ...


async def image(
    store: Store, provider: Provider, layers: list[ImageLayer] = LAYERS
) -> ImmutableRef:
    made = await ImageLayers(store.refs, store.content).ref(
        layers, provider, description="image", created=1.0
    )
    assert made is not None
    return made


def names(ref: ImmutableRef) -> list[str]:
    with ref.mount() as root:
        return sorted(path.name for path in root.iterdir())


def test_chain_ids() -> None:
    first, second, _ = chain_ids([layer.diff_id for layer in LAYERS])
    assert first == LAYERS[0].diff_id
    assert second == Digest.of_text(f"{first} {LAYERS[1].diff_id}")


async def test_nothing_is_made_before_it_is_needed(store: Store) -> None:
    provider = Provider(store)
    ref = await image(store, provider)
    assert provider.fetched == []
    assert store.refs.records.all() == []
    assert len(ref.layers) == 3
    stack = await store.refs.stack([*ref.layers, *ref.layers[:1]])
    assert store.refs.records.all() == []
    layers = await LayerStore(store.refs, store.content).layers(stack, LayerForm())
    assert [layer.diff_id for layer in layers] == [x.diff_id for x in (*LAYERS, LAYERS[0])]
    assert store.refs.records.all() == []  # exporting needs blobs only
    assert names(stack) == ["a", "b", "c"]
    assert names(ref) == ["b", "c"]
    child = await store.commit(stack)
    assert child.layers[:-1] == stack.layers
    assert provider.fetched == [layer.blob.digest for layer in LAYERS]


async def test_a_layer_is_known_again(store: Store, open_store: Callable[[], Store]) -> None:
    ref = await image(store, Provider(store), LAYERS[:2])
    assert names(ref) == ["a", "b"]
    other = open_store()
    provider = Provider(other)
    again = await image(other, provider)
    assert again.parent is not None
    assert again.parent.id == ref.id
    assert names(again) == ["b", "c"]
    assert provider.fetched == [LAYERS[2].blob.digest]
    assert read_origin(other.refs, again.id) == LAYERS[2]


async def test_two_processes_make_one_layer(store: Store, open_store: Callable[[], Store]) -> None:
    other = open_store()
    mine, theirs = await image(store, Provider(store)), await image(other, Provider(other))
    assert names(mine) == names(theirs) == ["b", "c"]
    assert mine.id != theirs.id
    assert (await image(open_store(), Provider(store))).id == mine.id


async def test_handles(store: Store) -> None:
    ref = await image(store, Provider(store))
    clone = ref.clone()
    await ref.ready()
    await ref.release()
    await ref.release()
    store.upkeep.prune([GCPolicy(is_all=True)])
    assert names(clone) == ["b", "c"]
    await clone.release()
    store.refs.lease.settle()
    store.upkeep.prune([GCPolicy(is_all=True)])
    assert store.refs.records.all() == []


async def test_a_wrong_diff_id_leaves_nothing(store: Store) -> None:
    wrong = ImageLayer(blob=LAYERS[0].blob, diff_id=LAYERS[1].diff_id)
    ref = await image(store, Provider(store), [wrong])
    with pytest.raises(CorruptError, match="diff id"):
        await ref.ready()
    assert store.refs.records.all() == []
    assert list(store.snapshots.names()) == []
    assert isinstance(ref, PendingRef)
    assert ref.layers == (LayerOf(ref.id, None),)
