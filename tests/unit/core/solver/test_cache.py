"""Records and sources of caches. Numbers: the solver reference, section 15."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest
from tests.unit.core.solver.fakes import World, above, vertex

from torana.core.errors import NotFoundError
from torana.core.oci.digest import Digest
from torana.core.solver.cache import CacheRecord, CacheSource, StoreCache
from torana.core.solver.export import KeyExporter
from torana.core.solver.keys import CacheKey, SelectedKey
from torana.core.solver.memory import MemoryKeyStore, MemoryResultStore
from torana.core.solver.op import Result
from torana.core.solver.stores import CONTENT_OUTPUT, root_key
from torana.core.solver.vertex import Vertex

# Cache records


async def test_scenario_32(world: World) -> None:
    chain = vertex("n0", value=1)
    for number in range(1, 6):
        chain = vertex(f"n{number}", None, chain, value=1)
    assert await world.build(chain) == 6
    world.reset()
    world.results.failing = 5
    assert await world.build(chain) == 6
    assert world.results.loads == 6
    assert world.execs.total() == 5


async def test_scenario_33(world: World) -> None:
    assert await world.build(vertex("top", None, vertex("a", value=1))) == 1
    await world.results.clear()
    world.reset()
    assert await world.build(vertex("top", None, vertex("a", value=2))) == 2
    assert world.execs.total() == 2
    assert world.results.loads == 0


async def test_record_that_vanishes_before_its_load(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await world.build(vertex("a", value=1)) == 1

    async def load(record_id: str) -> Result | None:
        raise NotFoundError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(world.results, "load", load)
        assert await world.build(vertex("a", value=2)) == 2
    assert await world.build(vertex("a", value=3)) == 2


# Several sources


class Imported(StoreCache):
    """A cache as another machine left it; it must be prepared before it is asked."""

    def __init__(self, world: World) -> None:
        super().__init__(world.keys, world.results, id="imported")
        self.prepared = 0

    async def prepare(self) -> None:
        await asyncio.sleep(0)
        self.prepared += 1

    def query(
        self, inputs: Sequence[SelectedKey], position: int, digest: str, output: int
    ) -> list[CacheKey]:
        assert self.prepared, "asked too early"
        return super().query(inputs, position, digest, output)


@pytest.fixture
async def other(world: World) -> AsyncIterator[World]:
    """Another world, whose cache is imported into `world`."""
    other = World()
    yield other
    await world.close()
    await other.close()


def pair(value: int, *sources: CacheSource) -> Vertex:
    leaf = vertex("v1", value=value, cache_sources=sources)
    return vertex("v0", None, leaf, value=value, cache_sources=sources)


async def test_scenario_30(world: World, other: World) -> None:
    assert await other.build(pair(1)) == 2
    other.reset()
    source = Imported(other)
    assert await world.build(pair(10, source)) == 2
    assert (world.execs.total(), world.results.loads, other.results.loads) == (0, 0, 1)
    # It is in the main store now, with all that leads to it and the time it was made at.
    assert await world.build(pair(10, source)) == 2
    assert (world.execs.total(), world.results.loads, other.results.loads) == (0, 1, 1)
    assert await world.build(pair(10)) == 2
    assert (world.execs.total(), world.results.loads, other.results.loads) == (0, 2, 1)
    assert await world.build(vertex("v2", None, pair(10), value=3)) == 5
    assert (world.execs, world.results.loads) == ({"v2": 1}, 3)


async def test_scenario_31(world: World, other: World) -> None:
    assert await other.build(pair(1)) == 2
    leaf = vertex("v1", value=10, cache_sources=(Imported(other),))
    assert await world.build(vertex("v0", None, leaf, value=10)) == 11
    assert world.execs == {"v0": 1}, "the source is the leaf's alone"


async def test_nested_builds_inherit_sources(world: World, other: World) -> None:
    assert await other.build(vertex("inner", value=1)) == 1
    inner = vertex("inner", value=10)
    outer = vertex("outer", nested=inner, cache_sources=(Imported(other),))
    assert await world.build(outer) == 1
    assert world.execs == {"outer": 1}


async def test_imported_content_keys_match(world: World, other: World) -> None:
    def top(leaf: str, *sources: CacheSource) -> Vertex:
        return above(vertex(leaf, value=1), contents=(0,), cache_sources=sources)

    assert await other.build(top("there")) == 11
    assert await world.build(top("here", Imported(other))) == 11
    assert world.execs == {"here": 1}
    assert await world.build(top("here")) == 11
    assert world.execs == {"here": 1}, "the definition leads to the imported result, too"


async def test_newer_result_of_two_sources_wins(world: World, other: World) -> None:
    assert await other.build(vertex("a", value=1)) == 1
    assert await world.build(vertex("a", value=2)) == 2
    source = Imported(other)
    assert await world.build(vertex("a", value=3, cache_sources=(source,))) == 2
    assert await other.build(vertex("a", value=4, ignore_cache=True)) == 4
    assert await world.build(vertex("a", value=5, cache_sources=(source,))) == 4


class Chained(MemoryResultStore):
    """Gives what a result was made from along with it."""

    def __init__(self, world: World, chain: dict[str, str]) -> None:
        super().__init__()
        self.world, self.chain = world, chain

    def exists(self, record_id: str) -> bool:
        return self.world.results.exists(record_id)

    async def load_chain(self, key_id: str, record_id: str) -> Mapping[str, Result | None]:
        found = {key_id: await self.world.results.load(record_id)}
        for key, record in self.chain.items():
            found[key] = await self.world.results.load(record)
        return found


async def test_ancestors_are_imported_with_a_result(world: World, other: World) -> None:
    assert await other.build(pair(1)) == 2
    leaf_key = root_key(Digest.of_text("v1"), 0)
    results = Chained(other, {leaf_key: "r1", "unrelated": "r1"})
    source = StoreCache(other.keys, results, id="imported")
    assert await world.build(pair(10, source)) == 2
    assert await world.build(vertex("v1", value=10)) == 1
    assert world.execs.total() == 0


# Keys in a store


def key(digest: str, *inputs: list[CacheKey], selector: str | None = None) -> CacheKey:
    alternatives = tuple(
        tuple(SelectedKey(each, KeyExporter(each), selector) for each in keys) for keys in inputs
    )
    return CacheKey(digest, 0, alternatives)


@pytest.fixture
def store() -> StoreCache:
    return StoreCache(MemoryKeyStore(), MemoryResultStore())


def found(
    store: StoreCache,
    inputs: list[CacheKey],
    position: int,
    digest: str,
    selector: str | None = None,
) -> set[str]:
    selected = [SelectedKey(each, KeyExporter(each), selector) for each in inputs]
    return {each.id for each in store.query(selected, position, digest, 0)}


def records(store: StoreCache, digest: str) -> list[str]:
    return [record.id for each in store.query((), 0, digest, 0) for record in store.records(each)]


def test_scenario_64(store: StoreCache) -> None:
    store.save(key("foo"), None, 1.0)
    assert records(store, "foo") == ["scratch"]
    assert store.query((), 0, "bar", 0) == []
    one = key("bar", [key("foo")])
    store.save(one, None, 1.0)
    assert found(store, [key("foo")], 0, "bar") == {store.key_id(one)}
    assert found(store, [key("foo")], 1, "bar") == set()
    assert found(store, [key("other")], 0, "bar") == set()
    two = key("sum", [key("a")], [key("b")])
    store.save(two, None, 1.0)
    assert found(store, [key("a")], 0, "sum") == {store.key_id(two)}
    assert found(store, [key("b")], 1, "sum") == {store.key_id(two)}
    assert found(store, [key("b")], 0, "sum") == set()
    half = key("sum", [key("a")], [key("c")])
    assert store.key_id(half) != store.key_id(two), "both inputs are needed"
    assert store.key_id(key("sum", [key("a")], [key("b")])) == store.key_id(two)


def test_scenario_65(store: StoreCache) -> None:
    one = key("bar", [key("foo")], selector="sel0")
    store.save(one, None, 1.0)
    assert found(store, [key("foo")], 0, "bar", "sel0") == {store.key_id(one)}
    assert found(store, [key("foo")], 0, "bar", "sel1") == set()
    assert found(store, [key("foo")], 0, "bar") == set()
    nested = key("baz", [one], selector="sel2")
    store.save(nested, None, 1.0)
    again = key("bar", [key("foo")], selector="sel0")
    assert found(store, [again], 0, "baz", "sel2") == {store.key_id(nested)}
    other = key("bar", [key("foo")], selector="sel9")
    assert found(store, [other], 0, "baz", "sel2") == set()


def test_scenario_68(store: StoreCache) -> None:
    saved = key("bar", [key("old")])
    store.save(saved, None, 1.0)
    assert found(store, [key("new")], 0, "bar") == set()
    assert found(store, [key("new"), key("old")], 0, "bar") == {store.key_id(saved)}
    assert found(store, [key("new")], 0, "bar") == {store.key_id(saved)}
    # The same by way of a key that has inputs itself.
    top = key("top", [key("middle", [key("x")])])
    store.save(top, None, 1.0)
    both = [key("middle", [key("y")]), key("middle", [key("x")])]
    assert found(store, both, 0, "top") == {store.key_id(top)}
    assert found(store, both[:1], 0, "top") == {store.key_id(top)}


def test_scenario_69() -> None:
    made = [
        CacheRecord(
            id, created, key("k"), StoreCache(MemoryKeyStore(), MemoryResultStore()), imported
        )
        for id, created, imported in (
            ("local", 5.0, False),
            ("old", 4.0, True),
            ("imported", 5.0, True),
            ("newest", 6.0, False),
        )
    ]
    order = [record.id for record in sorted(made, key=lambda record: record.rank)]
    assert order == ["newest", "imported", "local", "old"]


def test_known_content_decides_by_which_key_a_result_is_saved(store: StoreCache) -> None:
    def made(content: str) -> CacheKey:
        definition = SelectedKey(key("def"), KeyExporter(key("def")), None)
        of_content = CacheKey(content, CONTENT_OUTPUT)
        return CacheKey(
            "top", 0, ((definition, SelectedKey(of_content, KeyExporter(of_content), None)),)
        )

    first, second, third = made("c1"), made("c2"), made("c1")
    for each in (first, second, third):
        store.save(each, None, 1.0)
    assert store.key_id(first) == store.key_id(third) != store.key_id(second)
    assert found(store, [key("def")], 0, "top") == {store.key_id(first), store.key_id(second)}
