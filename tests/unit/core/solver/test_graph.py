"""Twins, merging, nested builds. Numbers: the solver reference, section 15."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.core.solver.fakes import Gate, Sink, World, above, ignoring, vertex

from torana.core.errors import UserError
from torana.core.solver.failure import SolveError
from torana.core.solver.vertex import Edge, Vertex

# Ignored caches


async def test_scenario_35(world: World) -> None:
    source = vertex("a", value=1)
    assert await world.build(source) == 1
    assert await world.build(ignoring(source, value=2)) == 2
    assert await world.build(source) == 2, "the result was not saved"


async def test_scenario_36(world: World) -> None:
    leaf = vertex("a", value=1)
    assert await world.build(vertex("over", None, above(leaf))) == 11
    world.reset()
    fresh = ignoring(leaf, value=2)
    assert await world.build(vertex("over", None, above(fresh))) == 12
    assert world.execs == {"a": 1, "top": 1, "over": 1}
    world.reset()
    assert await world.build(vertex("over", None, above(leaf))) == 12
    assert world.execs.total() == 0


async def test_scenario_37(world: World) -> None:
    leaf = vertex("a", value=1)
    assert await world.build(above(leaf, contents=(0,))) == 11
    world.reset()
    assert await world.build(above(ignoring(leaf), 20, contents=(0,))) == 11
    assert world.execs == {"a": 1}


@pytest.mark.parametrize("tag", ["", "other"])
async def test_scenario_38_and_39(world: World, tag: str) -> None:
    gate = Gate()
    source = vertex("a", value=1, before_exec=gate)
    task = asyncio.create_task(world.build(source))
    await gate.reached.wait()
    assert await world.build(vertex("a", value=2, tag=tag, ignore_cache=True)) == 2
    gate.opened.set()
    assert await task == 1


async def test_scenario_40_and_41(world: World) -> None:
    gate = Gate()
    normal, ignored = world.job(), world.job()
    source = vertex("a", value=1)
    assert await world.build(source, normal) == 1
    fresh = ignoring(source, value=2, before_exec=gate)
    tasks = [asyncio.create_task(world.build(fresh, ignored))]
    await gate.reached.wait()
    tasks.append(asyncio.create_task(world.build(ignoring(source, value=3))))
    tasks.append(asyncio.create_task(world.build(source)))
    await asyncio.sleep(0.01)
    gate.opened.set()
    assert await asyncio.gather(*tasks) == [2, 2, 2]
    assert world.execs["a"] == 2


# Nested builds


async def test_scenario_42(world: World) -> None:
    outer = vertex("outer", nested=vertex("inner", value=7), value=0)
    top = vertex("top", None, outer, value=1)
    job = world.job()
    assert await world.build(top, job) == 8
    assert world.maps.total() == world.execs.total() == 3
    assert {each.vertex.name for each in world.solver.graph} == {"top", "outer", "inner"}
    await job.discard()
    assert len(world.solver.graph) == 0, "a nested vertex outlived its parent"
    world.reset()
    assert await world.build(top) == 8
    assert world.execs.total() == 0


async def test_nested_build_reports_and_is_cancelled_with_its_parent(world: World) -> None:
    gate, sink = Gate(), Sink()
    inner = vertex("inner", before_exec=gate)
    outer = vertex("outer", nested=inner)
    job = world.job()
    job.subscribe(sink)
    task = asyncio.create_task(world.build(outer, job))
    await gate.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gate.cancelled == 1
    assert [event.error for event in sink.of(inner)][-1] == "context canceled"


async def test_nested_build_shares_what_runs_already(world: World) -> None:
    gate = Gate()
    inner = vertex("inner", value=1, before_exec=gate)
    first = asyncio.create_task(world.build(inner))
    await gate.reached.wait()
    second = asyncio.create_task(world.build(vertex("outer", nested=inner)))
    await asyncio.sleep(0.01)
    gate.opened.set()
    assert [await first, await second] == [1, 1]
    assert world.execs["inner"] == 1


async def test_nested_build_of_itself_is_refused(world: World) -> None:
    outer = vertex("outer")
    below = vertex("below", None, outer)
    outer.sys.nested = below
    with pytest.raises(SolveError, match="needs the step that it is built by: `outer`"):
        await world.build(outer)


async def test_failure_of_a_nested_build_is_of_the_inner_vertex(world: World) -> None:
    async def fail() -> None:
        raise UserError("broken")

    inner = vertex("inner", before_exec=fail)
    with pytest.raises(SolveError, match="broken") as caught:
        await world.build(vertex("outer", nested=inner))
    assert caught.value.vertex is inner


# Merging


async def test_scenario_54() -> None:
    for _ in range(20):
        world = World()
        left = vertex("s2", None, vertex("c2", value=2), value=2, tag="left")
        middle = vertex("s0", None, left, vertex("c0", value=0))
        right = vertex("s2", None, vertex("c2", value=2, tag="right"), value=2, tag="right")
        assert await world.build(vertex("s3", None, middle, right, value=3)) == 11
        assert world.maps.total() == 7
        assert world.execs["s2"] == world.execs["c2"] == 1
        assert world.results.loads == 0
        await world.close()


def split(tag: str, *values: int) -> Vertex:
    constants = [vertex(f"c{value}", value=value) for value in values]
    return vertex("split", None, *constants, value=2, tag=tag, is_split=True)


async def test_scenario_55() -> None:
    for _ in range(20):
        world = World()
        a, b = split("a", 3, 4), split("b", 3, 4)
        edges = [Edge(a, 1), Edge(b, 0), Edge(a, 0), Edge(b, 1)]
        assert await world.build(vertex("sum", None, *edges, value=1)) == 23
        assert world.execs["split"] <= 2
        await world.close()


async def test_scenario_56() -> None:
    for _ in range(20):
        world = World()
        a, b, c = (split(tag, 3, 4, 5) for tag in "abc")
        edges = [Edge(b, 0), Edge(a, 0), Edge(c, 1), Edge(a, 1), Edge(a, 2), Edge(b, 2)]
        assert await world.build(vertex("sum", None, *edges, value=1)) == 37
        await world.close()


async def test_scenario_57(world: World) -> None:
    def top(seed: str, first: str, second: str, contents: tuple[int, ...] = ()) -> Vertex:
        inputs = vertex(first, value=1), vertex(second, value=2)
        return vertex(seed, None, *inputs, contents=contents, tag=str(contents))

    assert await world.build(top("v0", "v1", "v2")) == 3
    assert await world.build(top("v0-1", "v1-1", "v2-1")) == 3
    assert await world.build(top("v0-1", "v1", "v2-1", (1,))) == 3


async def test_scenario_58(world: World) -> None:
    leaves = [vertex("leaf", value=1, tag=tag) for tag in "012"]
    tops = [vertex("top", None, leaf, value=2, tag=leaf.digest) for leaf in leaves]
    jobs = [world.job() for _ in tops]

    def holders() -> dict[str, set[int]]:
        names = {each.digest: f"leaf{i}" for i, each in enumerate(leaves)}
        names |= {each.digest: f"top{i}" for i, each in enumerate(tops)}
        return {
            names[active.vertex.digest]: {jobs.index(job) for job in active.jobs}
            for active in world.solver.graph
        }

    assert await world.build(tops[0], jobs[0]) == 3
    assert holders() == {"top0": {0}, "leaf0": {0}}
    assert await world.build(tops[1], jobs[1]) == 3
    both = {"top0": {0, 1}, "leaf0": {0, 1}, "top1": {1}, "leaf1": {1}}
    assert holders() == both
    await jobs[0].discard()
    assert holders() == {name: {1} for name in both}
    assert await world.build(tops[2], jobs[2]) == 3
    assert holders()["top0"] == holders()["leaf0"] == {1, 2}
    assert holders()["top1"] == holders()["leaf1"] == {1}
    await jobs[1].discard()
    assert holders() == {name: {2} for name in ("top0", "leaf0", "top2", "leaf2")}
    assert world.execs.total() == 2
    await jobs[2].discard()
    assert holders() == {}


async def test_later_holder_of_a_merged_vertex_holds_its_target(world: World) -> None:
    first, second = (vertex("a", value=1, tag=tag) for tag in "12")
    jobs = [world.job() for _ in range(3)]
    assert await world.build(first, jobs[0]) == 1
    assert await world.build(second, jobs[1]) == 1
    assert await world.build(second, jobs[2]) == 1
    await jobs[0].discard()
    await jobs[1].discard()
    assert await world.build(vertex("top", None, second), jobs[2]) == 1
    assert world.execs["a"] == 1


async def test_merged_vertex_is_reported_as_cached(world: World) -> None:
    gate, sink = Gate(), Sink()
    first, second = (vertex("a", value=1, tag=tag, before_exec=gate) for tag in "12")
    job = world.job()
    job.subscribe(sink)
    tasks = [asyncio.create_task(world.build(first))]
    await gate.reached.wait()
    tasks.append(asyncio.create_task(world.build(second, job)))
    await asyncio.sleep(0.01)
    gate.opened.set()
    assert await asyncio.gather(*tasks) == [1, 1]
    assert world.execs["a"] == 1
    assert sink.of(second)[-1].completed


async def test_merging_follows_a_cancelled_source(world: World) -> None:
    gate = Gate()
    first, second = (vertex("a", value=1, tag=tag, before_exec=gate) for tag in "12")
    tasks = [asyncio.create_task(world.build(each)) for each in (first, second)]
    await gate.reached.wait()
    await asyncio.sleep(0.01)
    tasks[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    gate.opened.set()
    assert await tasks[1] == 1
    assert (gate.cancelled, world.execs["a"]) == (0, 1)
