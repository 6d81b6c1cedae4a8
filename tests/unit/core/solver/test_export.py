"""Exporting keys. Numbers are those of the solver reference, section 15."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.unit.core.solver.fakes import World, above, vertex

from torana.core.errors import NotFoundError
from torana.core.oci.digest import Digest
from torana.core.solver.export import (
    ExportedLink,
    ExportedResult,
    ExportMode,
    ExportOptions,
    export_keys,
)
from torana.core.solver.op import Result
from torana.core.solver.stores import CONTENT_OUTPUT, root_key
from torana.core.solver.vertex import Edge, Vertex


@dataclass(eq=False)
class Record:
    digest: str
    links: set[tuple[int, str, str | None]] = field(default_factory=set)
    results: list[float] = field(default_factory=list)


class Target:
    """Merges what is added by digest, as a cache manifest does."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.calls = 0

    def add(
        self,
        digest: str,
        inputs: Sequence[Sequence[ExportedLink]],
        results: Sequence[ExportedResult],
    ) -> Record:
        self.calls += 1
        record = self.records.setdefault(digest, Record(digest))
        record.links |= {
            (position, link.record.digest, link.selector)
            for position, links in enumerate(inputs)
            for link in links
        }
        record.results += [each.created for each in results]
        return record

    def of(self, seed: str) -> Record:
        return self.records[key_of(seed)]


def key_of(seed: str) -> str:
    return root_key(Digest.of_text(seed), 0)


def content_key(value: Any) -> str:
    return root_key(Digest.of_text(f"content {value}"), CONTENT_OUTPUT)


async def export(
    world: World,
    source: Vertex,
    mode: ExportMode,
    *,
    at_hand: bool = False,
    has_roots: bool = False,
) -> Target:
    """Build and export; results are at hand only if `at_hand`, else they are to be made."""

    async def remotes(result: Result | None, is_at_hand: bool) -> Sequence[Any]:
        return ["remote"] if at_hand or not is_at_hand else []

    job = world.job()
    target = Target()
    try:
        solved = await job.solve(Edge(source))
        options = ExportOptions(
            mode=mode, remotes=remotes, has_roots=has_roots, stores=[world.solver.cache]
        )
        found = await export_keys(solved.keys, target, options)
        assert found, "the result has no record"
    finally:
        await job.discard()
    return target


async def test_scenario_45(world: World) -> None:
    top = vertex("top", None, vertex("a", value=2), vertex("b", value=3), value=1)
    for _ in range(2):
        target = await export(world, top, ExportMode.MAX)
        assert set(target.records) == {key_of(seed) for seed in ("a", "b", "top")}
        for leaf in "ab":
            assert target.of(leaf).results == []
            assert not target.of(leaf).links
        assert len(target.of("top").results) == 1
        assert target.of("top").links == {(0, key_of("a"), None), (1, key_of("b"), None)}
    assert world.execs.total() == 3


async def test_scenario_46(world: World) -> None:
    middle = vertex("middle", None, vertex("a", value=3), value=2)
    top = vertex("top", None, middle, vertex("b", value=5), value=1)
    for _ in range(2):
        target = await export(world, top, ExportMode.MIN)
        assert len(target.records) == 4
        assert {seed: len(target.of(seed).results) for seed in ("a", "b", "middle", "top")} == {
            "a": 0,
            "b": 0,
            "middle": 0,
            "top": 1,
        }
        assert target.of("middle").links == {(0, key_of("a"), None)}
        assert len(target.of("top").links) == 2


async def test_max_mode_exports_results_below(world: World) -> None:
    middle = vertex("middle", None, vertex("a", value=3), value=2)
    target = await export(world, vertex("top", None, middle), ExportMode.MAX)
    assert len(target.of("middle").results) == len(target.of("top").results) == 1
    assert target.of("a").results == []
    target = await export(world, vertex("top", None, middle), ExportMode.MAX)
    assert len(target.of("top").results) == 1
    world.reset()
    again = await export(world, vertex("top", None, middle), ExportMode.MIN, at_hand=True)
    assert world.execs.total() == 0
    assert len(again.of("top").results) == 1


async def test_min_mode_takes_along_what_is_at_hand(world: World) -> None:
    middle = vertex("middle", None, vertex("a", value=3), value=2)
    target = await export(world, vertex("top", None, middle), ExportMode.MIN, at_hand=True)
    assert len(target.of("middle").results) == 1
    target = await export(world, vertex("x", None, middle), ExportMode.MIN, at_hand=True)
    assert target.of("a").results == []
    target = await export(
        world, vertex("y", None, middle), ExportMode.MIN, at_hand=True, has_roots=True
    )
    assert len(target.of("a").results) == 1


async def test_scenario_47(world: World) -> None:
    def top(seed: str) -> Vertex:
        leaf = vertex(seed, value=1)
        return vertex("v0", None, leaf, value=10, selectors=("sel0",), contents=(0,))

    selector = str(Digest.of_text("sel0"))
    for seed, count in (("seed1", 3), ("seed1", 3), ("seed1-net", 4)):
        target = await export(world, top(seed), ExportMode.MAX)
        assert len(target.records) == count
        assert len(target.of("v0").results) == 1
        links = target.of("v0").links
        assert {(0, key_of(seed), selector), (0, content_key(1), None)} <= links
    target = await export(world, vertex("v2", None, top("seed1-net")), ExportMode.MAX)
    assert len(target.records) == 5
    assert len(target.of("v2").results) == len(target.of("v0").results) == 1


async def test_scenario_48(world: World) -> None:
    def middle(leaf: str, tag: str) -> Vertex:
        return vertex("v1", None, vertex(leaf, value=2), contents=(0,), tag=tag)

    top = vertex("v0", None, middle("v2", "a"), middle("v3", "b"))
    target = await export(world, top, ExportMode.MAX)
    names = [key_of(seed) for seed in ("v0", "v1", "v2", "v3")]
    assert set(target.records) == {*names, content_key(2)}
    assert world.execs["v1"] == 1
    sources = {digest for _, digest, _ in target.of("v1").links}
    assert sources == {key_of("v2"), key_of("v3"), content_key(2)}


async def test_scenario_49(world: World) -> None:
    leaf = vertex("first", value=1, more_seeds=("second",))
    target = await export(world, above(leaf), ExportMode.MAX)
    assert set(target.records) == {key_of(seed) for seed in ("first", "second", "top")}
    assert {digest for _, digest, _ in target.of("top").links} == {
        key_of("first"),
        key_of("second"),
    }
    target = await export(world, above(leaf), ExportMode.MAX)
    assert len(target.records) == 3, "the other root key is known from the store"


async def test_scenario_50(world: World) -> None:
    middle = vertex("middle", None, vertex("a", value=1), export_cache=False)
    for _ in range(2):
        target = await export(world, above(middle), ExportMode.MAX)
        assert target.of("middle").results == []
        assert target.of("top").links == {(0, key_of("middle"), None)}
        assert len(target.of("top").results) == 1


async def test_scenario_34(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    middle = vertex("middle", None, vertex("a", value=1))
    assert await world.build(above(middle)) == 11
    await world.results.remove("r2")
    target = await export(world, above(middle), ExportMode.MAX)
    assert set(target.records) == {key_of(seed) for seed in ("a", "middle", "top")}
    assert target.of("middle").results == []

    async def load(record_id: str) -> Result | None:
        raise NotFoundError("gone")

    job = world.job()
    solved = await job.solve(Edge(above(middle)))
    monkeypatch.setattr(world.results, "load", load)
    target = Target()

    async def remotes(result: Result | None, is_at_hand: bool) -> Sequence[Any]:
        raise AssertionError("there is nothing to export")

    await export_keys(solved.keys, target, ExportOptions(mode=ExportMode.MAX, remotes=remotes))
    assert target.of("top").results == []


async def test_random_definitions_are_left_out(world: World) -> None:
    leaf = vertex("a", value=1, is_random=True)
    target = await export(world, above(leaf, contents=(0,)), ExportMode.MAX)
    assert set(target.records) == {content_key(1), key_of("top")}
    assert target.of("top").links == {(0, content_key(1), None)}


async def test_nested_builds_are_exported_with_their_parent(world: World) -> None:
    inner = vertex("inner", None, vertex("a", value=1))
    target = await export(world, vertex("outer", nested=inner), ExportMode.MAX)
    assert {key_of(seed) for seed in ("outer", "inner", "a")} <= set(target.records)
    assert len(target.of("inner").results) == 1


async def test_deep_and_shared_graphs_are_linear(world: World) -> None:
    current = vertex("n0", value=1)
    for number in range(1, 1200):
        current = vertex(f"n{number}", None, current, current)
    target = await export(world, current, ExportMode.MAX)
    assert len(target.records) == 1200
    assert target.calls < 5 * 1200


async def test_export_is_the_same_for_equal_stores() -> None:
    exports = []
    for _ in range(2):
        world = World()
        leaves = [vertex(name, value=1) for name in "cab"]
        tops = [vertex(f"t{leaf.name}", None, leaf, contents=(0,)) for leaf in leaves]
        target = await export(world, vertex("top", None, *tops), ExportMode.MAX)
        exports.append(
            {d: (sorted(map(str, r.links)), len(r.results)) for d, r in target.records.items()}
        )
        await world.close()
    assert exports[0] == exports[1]
