"""What an edge asks for, and what it leaves alone. Numbers: the solver reference, section 15."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from tests.unit.core.solver.fakes import Gate, World, above, ignoring, vertex

from torana.core.errors import (
    UserError,
)
from torana.core.solver.failure import SolveError
from torana.core.solver.vertex import Edge, Vertex

# Graph shape


async def test_scenario_15(world: World) -> None:
    shared = vertex("shared", value=5)
    left = vertex("left", None, shared, vertex("l", value=7))
    right = vertex("right", None, shared, left, vertex("r", value=13))
    top = vertex("top", None, left, right)  # 12 + (5 + 12 + 13)
    assert await world.build(top) == 42
    assert set(world.execs.values()) == {1}
    world.reset()
    assert await world.build(top) == 42
    assert world.execs.total() == 0


def random_graph(size: int) -> Vertex:
    chance = random.Random(7)
    made: list[Vertex] = []
    for number in range(size):
        count = min(len(made), chance.randrange(4)) if number < size - 1 else 0
        inputs = chance.sample(made, count)
        made.append(vertex(f"n{number}", None, *inputs, value=number % 10))
    used = {edge.vertex for each in made for edge in each.inputs}
    return vertex("root", None, *(each for each in made if each not in used))


async def test_scenario_16(world: World) -> None:
    assert (first := await world.build(random_graph(1000))) > 0
    assert world.maps.total() == world.execs.total() == 1001
    world.reset()
    assert await world.build(random_graph(1000)) == first
    assert world.execs.total() == 0
    assert world.results.loads == 1


async def test_scenario_17(world: World) -> None:
    maps, execs = asyncio.Barrier(2), asyncio.Barrier(2)

    async def meet(barrier: asyncio.Barrier) -> None:
        await barrier.wait()

    leaves = [
        vertex(name, value=1, before_map=lambda: meet(maps), before_exec=lambda: meet(execs))
        for name in "ab"
    ]
    assert await world.build(vertex("top", None, *leaves)) == 2


# Minimal access


def consumer(leaf: Vertex, other: Vertex) -> Vertex:
    middle = vertex("middle", None, leaf, value=100, contents=(0,))
    return vertex("top", None, middle, other)


async def test_scenario_18(world: World) -> None:
    other = vertex("other", value=1000)
    assert await world.build(consumer(vertex("leaf", value=1), other)) == 1101
    world.reset()
    assert await world.build(consumer(vertex("leaf2", value=1), other)) == 1101
    assert world.execs == {"leaf2": 1}
    assert world.results.loads == 1


async def test_content_decides_and_its_definition_is_learnt(world: World) -> None:
    other = vertex("other", value=1000)
    assert await world.build(consumer(vertex("leaf", value=1), other)) == 1101
    assert await world.build(consumer(vertex("leaf2", value=1), other)) == 1101
    assert await world.build(consumer(vertex("leaf3", value=2), other)) == 1102
    world.reset()
    for name, expected in (("leaf", 1101), ("leaf3", 1102)):
        assert await world.build(consumer(vertex(name, value=9), other)) == expected
    assert world.execs.total() == 0
    assert world.hashes.total() == 0


async def test_scenario_19(world: World) -> None:
    def top(a: Vertex, b: Vertex) -> Vertex:
        middles = [vertex(f"m{i}", None, each, contents=(0,)) for i, each in enumerate((a, b))]
        return vertex("top", None, *middles, value=100)

    assert await world.build(top(vertex("a", value=1), vertex("b", value=2))) == 103
    world.reset()
    assert await world.build(top(vertex("a2", value=1), vertex("b2", value=3))) == 104
    assert world.execs == {"a2": 1, "b2": 1, "m1": 1, "top": 1}
    assert world.results.loads == 1


async def test_scenario_20(world: World) -> None:
    def top(tag: str) -> Vertex:
        leaves = [vertex(name + tag, value=value) for name, value in (("a", 1), ("b", 2))]
        return vertex("top", None, *leaves, contents=(0, 1))

    assert await world.build(top("1")) == 3
    world.reset()
    assert await world.build(top("2")) == 3
    assert world.execs == {"a2": 1, "b2": 1}
    assert world.results.loads == 1


async def test_scenario_21(world: World) -> None:
    assert await world.build(vertex("top", None, vertex("a", value=1), contents=(0,))) == 1
    world.reset()
    assert await world.build(vertex("top", None, vertex("b", value=1), contents=(0,))) == 1
    assert world.execs == {"b": 1}
    assert world.hashes == {"top": 1}


async def test_scenario_22(world: World) -> None:
    def fail(value: Any) -> Any:
        raise UserError("cannot read it")

    top = vertex("top", None, vertex("a", value=1), contents=(0,), content=fail)
    with pytest.raises(SolveError, match="cannot read it") as caught:
        await world.build(top)
    assert caught.value.vertex is top
    assert world.execs == {"a": 1}


async def test_scenario_23(world: World) -> None:
    top = vertex("top", None, vertex("a", value=1), contents=(0,))
    assert await world.build(top) == 1
    assert world.hashes.total() == 1
    world.reset()
    assert await world.build(top) == 1
    assert world.hashes.total() == 0


async def test_inputs_that_match_are_not_hashed_when_another_cannot(world: World) -> None:
    """Hashing one decides it: the other matched by its definition and is not even run."""

    def top(tag: str) -> Vertex:
        fixed = vertex("fixed", value=1)
        return vertex("top", None, fixed, vertex("new" + tag, value=2), contents=(0, 1))

    assert await world.build(top("1")) == 3
    world.reset()
    assert await world.build(top("2")) == 3
    assert world.execs == {"new2": 1}
    assert world.hashes == {"top": 1}


async def test_scenario_24_and_deep_chain(world: World) -> None:
    chain = vertex("n0", value=1)
    for number in range(1, 2000):
        chain = vertex(f"n{number}", None, chain, value=1)
    assert await world.build(chain) == 2000
    world.reset()
    assert await world.build(chain) == 2000
    assert world.execs.total() == 0
    assert world.results.loads == 1


async def test_failure_and_cancellation_under_a_deep_chain(world: World) -> None:
    async def fail() -> None:
        raise UserError("broken")

    gate = Gate()
    for hook in (fail, gate):
        chain = vertex("n0", before_exec=hook, tag=str(hook is gate))
        for number in range(1, 1500):
            chain = vertex(f"n{number}", None, chain)
        task = asyncio.create_task(world.build(chain))
        if hook is gate:
            await gate.reached.wait()
            task.cancel()
        with pytest.raises((SolveError, asyncio.CancelledError)) as caught:
            await task
        assert isinstance(caught.value, SolveError) == (hook is fail)


async def test_scenario_25(world: World) -> None:
    def top(tag: str) -> Vertex:
        kept = vertex("kept", None, vertex("base", value=1))
        changed = vertex("changed", None, vertex("ctx" + tag, value=2), contents=(0,))
        return vertex("top", None, kept, changed)

    assert await world.build(top("1")) == 3
    world.reset()
    assert await world.build(top("2")) == 3
    assert world.maps.total() == 5
    assert world.execs == {"ctx2": 1}
    assert world.results.loads == 1


# Selectors


async def test_scenario_43(world: World) -> None:
    leaf = vertex("a", value=1)
    assert await world.build(above(leaf, selectors=("/x",))) == 11
    world.reset()
    assert await world.build(above(leaf, 20, selectors=("/x",), tag="2")) == 11
    assert (world.execs.total(), world.results.loads) == (0, 1)
    assert await world.build(above(leaf, 20, selectors=("/y",))) == 21
    assert world.execs == {"top": 1}
    assert world.results.loads == 2


async def test_scenario_44(world: World) -> None:
    leaf = vertex("a", value=1)
    assert await world.build(above(leaf, selectors=("/x",), contents=(0,))) == 11
    world.reset()
    assert await world.build(above(leaf, 20, selectors=("/y",), contents=(0,))) == 11
    assert world.execs.total() == 0
    assert world.results.loads == 2


# Several cache maps, random keys, scratch


async def test_scenario_51_and_52(world: World) -> None:
    assert await world.build(vertex("a", value=1, more_seeds=("chain",))) == 1
    world.reset()
    assert await world.build(vertex("b", value=2, more_seeds=("chain",))) == 1
    assert (world.maps["b"], world.execs.total()) == (2, 0)
    assert await world.build(vertex("c", value=3, seed="a", more_seeds=("no",))) == 1
    assert (world.maps["c"], world.execs.total()) == (1, 0)


async def test_scenario_53(world: World) -> None:
    assert await world.build(above(vertex("a", value=1, more_seeds=("chain",)))) == 11
    world.reset()
    assert await world.build(above(vertex("b", value=2, more_seeds=("chain",)), 20)) == 11
    assert world.execs.total() == 0


@pytest.mark.parametrize("base", ["fresh", "warm", "cold"])
async def test_scenario_59_to_62(world: World, base: str) -> None:
    leaf = vertex("a", value=1)
    assert await world.build(above(leaf)) == 11
    holder = world.job()
    if base != "fresh":
        if base == "cold":
            await world.results.remove("r1")
        assert await world.build(leaf, holder) == 1
    world.reset()
    assert await world.build(above(leaf, 20, tag=base)) == 11
    assert world.execs.total() == 0


async def test_scenario_63(world: World) -> None:
    leaf = vertex("a", value=1)
    assert await world.build(above(leaf)) == 11
    assert await world.build(ignoring(leaf, value=2), world.job()) == 2
    world.reset()
    assert await world.build(above(leaf)) == 12
    assert world.execs == {"top": 1}


async def test_random_definitions_match_by_content_alone(world: World) -> None:
    def over(value: int, contents: tuple[int, ...]) -> Vertex:
        leaf = vertex("a", value=value, is_random=True)
        return above(leaf, contents=contents)

    assert await world.build(over(1, ())) == 11
    assert not world.keys._links
    assert not world.keys._records
    assert await world.build(over(1, (0,))) == 11
    assert await world.build(over(2, (0,))) == 12
    world.reset()
    assert await world.build(over(1, (0,))) == 11
    assert world.execs == {"a": 1}
    assert not any(link[0].startswith("random:") for link in world.keys._links)


async def test_scratch_is_cached_too(world: World) -> None:
    empty = vertex("a", is_scratch=True)
    assert await world.build(empty) is None
    assert await world.build(above(empty)) == 10
    world.reset()
    assert await world.build(empty) is None
    assert await world.build(above(empty)) == 10
    assert world.execs.total() == 0


async def test_missing_output_is_an_error(world: World) -> None:
    with pytest.raises(SolveError, match="invalid output 3: the step has 1"):
        await world.job().build(Edge(vertex("a"), 3))
