"""The solver with ops that count: numbers of the scenarios are those of the solver reference."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from torana.core.errors import (
    ConflictError,
    NotFoundError,
    Position,
    SourceExcerpt,
    SourceRange,
    UserError,
)
from torana.core.oci.digest import Digest
from torana.core.solver.failure import SolveError
from torana.core.solver.job import Job
from torana.core.solver.memory import MemoryKeyStore, MemoryResultStore
from torana.core.solver.op import CacheMap, CacheMapInput, Op, Result
from torana.core.solver.opcontext import OpContext
from torana.core.solver.progress import LogEvent, ProgressEvent, StatusEvent, VertexEvent
from torana.core.solver.solver import Solver
from torana.core.solver.vertex import Edge, Vertex, VertexOptions

TIMEOUT = 20.0


class Live:
    """Counts handles, so that a test sees leaks and double releases."""

    def __init__(self) -> None:
        self.handles = 0
        self.made = 0


class FakeResult:
    def __init__(self, live: Live, value: Any, id: str) -> None:
        self.live, self.value, self._id = live, value, id
        self.is_released = False
        live.handles += 1

    @property
    def id(self) -> str:
        return self._id

    def clone(self) -> FakeResult:
        assert not self.is_released, "used after its release"
        return FakeResult(self.live, self.value, self._id)

    async def release(self) -> None:
        assert not self.is_released, "released twice"
        self.is_released = True
        self.live.handles -= 1


Hook = Callable[[], Awaitable[None]]


def same(value: Any) -> Any:
    return value


@dataclass(eq=False)
class Fake:
    """What an op is to do; `seed` decides its cache key, `value` is added to its inputs."""

    seed: str
    value: Any = 0
    selectors: tuple[str | None, ...] = ()
    contents: tuple[int, ...] = ()  # inputs that have a content digest
    content: Callable[[Any], Any] = same
    before_map: Hook | None = None
    before_exec: Hook | None = None
    is_limited: bool = False
    is_random: bool = False
    is_scratch: bool = False
    more_seeds: tuple[str, ...] = ()


class FakeOp:
    def __init__(self, world: World, vertex: Vertex, context: OpContext) -> None:
        self.world, self.vertex, self.context = world, vertex, context
        self.fake: Fake = vertex.sys
        self.is_limited = self.fake.is_limited

    async def cache_map(self, index: int) -> tuple[CacheMap, bool]:
        self.world.maps[self.vertex.name] += 1
        if self.fake.before_map is not None:
            await self.fake.before_map()
        seeds = (self.fake.seed, *self.fake.more_seeds)
        digest = Digest.of_text(seeds[index])
        if self.fake.is_random:
            digest = Digest("random:" + digest.encoded)
        inputs = []
        for position in range(len(self.vertex.inputs)):
            selectors = self.fake.selectors
            selector = selectors[position] if position < len(selectors) else None
            inputs.append(
                CacheMapInput(
                    selector=Digest.of_text(selector) if selector else None,
                    content_digest=self.hash if position in self.fake.contents else None,
                )
            )
        return CacheMap(digest=digest, inputs=tuple(inputs)), index == len(seeds) - 1

    async def hash(self, result: Result) -> Digest:
        assert isinstance(result, FakeResult)
        self.world.hashes[self.vertex.name] += 1
        return Digest.of_text(f"content {self.fake.content(result.value)}")

    async def exec(self, inputs: Sequence[Result]) -> Sequence[Result]:
        self.world.execs[self.vertex.name] += 1
        if self.fake.before_exec is not None:
            await self.fake.before_exec()
        self.context.log(1, b"ran")
        self.context.status("s", name="n", current=1, total=1, done=True)
        if self.fake.is_scratch:
            return [None]  # type: ignore[list-item]
        values = [each.value for each in inputs if isinstance(each, FakeResult)]
        total = sum(values, start=self.fake.value)
        self.world.live.made += 1
        return [FakeResult(self.world.live, total, f"r{self.world.live.made}")]


class CountingResults(MemoryResultStore):
    def __init__(self) -> None:
        super().__init__()
        self.loads = 0
        self.failing: int = 0

    async def load(self, record_id: str) -> Result | None:
        self.loads += 1
        if self.failing:
            self.failing -= 1
            raise OSError("disk on fire")
        return await super().load(record_id)

    async def clear(self) -> None:
        for record_id in list(self._results):
            await self.remove(record_id)


class World:
    """A solver with everything that it works on, and counters."""

    def __init__(self, max_parallelism: int = 0) -> None:
        self.live = Live()
        self.keys = MemoryKeyStore()
        self.results = CountingResults()
        self.reset()
        self.solver = Solver(
            resolve_op=self.resolve,
            keys=self.keys,
            results=self.results,
            max_parallelism=max_parallelism,
        )
        self._jobs = 0

    def resolve(self, vertex: Vertex, context: OpContext) -> Op:
        return FakeOp(self, vertex, context)

    def reset(self) -> None:
        self.maps: Counter[str] = Counter()
        self.execs: Counter[str] = Counter()
        self.hashes: Counter[str] = Counter()
        self.results.loads = 0

    def job(self) -> Job:
        self._jobs += 1
        return self.solver.new_job(f"job{self._jobs}")

    async def build(self, vertex: Vertex, job: Job | None = None) -> Any:
        """Give the value of `vertex`; without `job` in one of its own that ends."""
        owner = job or self.job()
        try:
            async with asyncio.timeout(TIMEOUT):
                result = await owner.build(Edge(vertex))
            if result is None:
                return None
            assert isinstance(result, FakeResult)
            value = result.value
            await result.release()
            return value
        finally:
            if job is None:
                await owner.discard()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.solver.close()
    await world.results.clear()
    assert world.live.handles == 0, "a result was not released"
    assert len(world.solver.graph) == len(world.solver.scheduler.index) == 0


def vertex(
    name: str,
    fake: Fake | None = None,
    *inputs: Vertex,
    ignore_cache: bool = False,
    tag: str = "",
    sources: tuple[SourceExcerpt, ...] = (),
    **values: Any,
) -> Vertex:
    """Give a vertex with a digest of `name`, `tag` and inputs; its seed is `name` by default."""
    parts = ",".join(each.digest for each in inputs)
    return Vertex(
        digest=Digest.of_text(f"{name} {tag} {parts}"),
        name=name,
        inputs=tuple(Edge(each) for each in inputs),
        sys=fake or Fake(**{"seed": name, **values}),
        options=VertexOptions(ignore_cache=ignore_cache),
        sources=sources,
    )


def ignoring(source: Vertex, **values: Any) -> Vertex:
    """Give `source` again with its cache ignored, and other values of its op."""
    return replace(
        source,
        sys=replace(source.sys, **values),
        options=replace(source.options, ignore_cache=True),
    )


@dataclass
class Gate:
    """Where an op stops until the test opens it."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: int = 0

    async def __call__(self) -> None:
        self.reached.set()
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


class Sink:
    def __init__(self) -> None:
        self.events: list[ProgressEvent] = []

    def emit(self, event: ProgressEvent) -> None:
        self.events.append(event)

    def of(self, source: Vertex) -> list[VertexEvent]:
        return [
            event
            for event in self.events
            if isinstance(event, VertexEvent) and event.digest == source.digest
        ]


# Active graph and single level


async def test_scenario_01(world: World) -> None:
    assert await world.build(vertex("a", value=1)) == 1
    assert world.maps.total() == world.execs.total() == 1


async def test_scenario_02(world: World) -> None:
    first = world.job()
    assert await world.build(vertex("a", value=1), first) == 1
    assert await world.build(vertex("a", value=2, seed="other")) == 1
    assert world.maps.total() == world.execs.total() == 1


async def test_scenario_03(world: World) -> None:
    first, second = world.job(), world.job()
    assert await world.build(vertex("a", value=1), first) == 1
    assert await world.build(vertex("a", value=2), second) == 1
    await first.discard()
    assert await world.build(vertex("a", value=3, seed="other")) == 1
    assert world.execs.total() == 1


async def test_scenario_04(world: World) -> None:
    assert await world.build(vertex("a", value=1)) == 1
    assert await world.build(vertex("a", value=2, seed="other")) == 2


async def test_scenario_05(world: World) -> None:
    gate = Gate()
    slow = vertex("a", value=1, before_exec=gate)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(world.build(slow)) for _ in range(2)]
        await gate.reached.wait()
        gate.opened.set()
    assert [task.result() for task in tasks] == [1, 1]
    assert world.execs.total() == 1


async def test_scenario_06(world: World) -> None:
    assert await world.build(vertex("a", value=1)) == 1
    assert await world.build(vertex("b", value=2)) == 2
    assert world.execs.total() == 2


async def test_scenario_07(world: World) -> None:
    assert await world.build(vertex("a", value=1)) == 1
    world.reset()
    assert await world.build(vertex("b", value=2, seed="a")) == 1
    assert world.execs.total() == 0
    assert world.results.loads == 1


async def test_scenario_08(world: World) -> None:
    assert await world.build(vertex("a", value=1)) == 1
    world.reset()
    assert await world.build(vertex("a", value=2)) == 1
    assert world.execs.total() == 0


async def test_scenario_09(world: World) -> None:
    gate = Gate()
    first = vertex("a", value=1, before_exec=gate)
    second = vertex("b", value=1, seed="a", before_exec=gate)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(world.build(each)) for each in (first, second)]
        await gate.reached.wait()
        await asyncio.sleep(0.01)
        gate.opened.set()
    assert [task.result() for task in tasks] == [1, 1]
    assert world.execs.total() == 1


async def test_scenario_10(world: World) -> None:
    tops = [vertex("top", None, vertex("leaf", tag=tag, value=1), tag=tag, value=1) for tag in "xy"]
    assert await asyncio.gather(*(world.build(top) for top in tops)) == [2, 2]
    assert world.maps == {"leaf": 2, "top": 2}
    assert world.execs == {"leaf": 1, "top": 1}


# Cancellation


async def test_scenario_11(world: World) -> None:
    gate = Gate()
    task = asyncio.create_task(world.build(vertex("a", before_map=gate)))
    await gate.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gate.cancelled == 1
    assert world.execs.total() == 0


async def test_scenario_12(world: World) -> None:
    gate = Gate()
    leaf = vertex("a", value=1, before_exec=gate)
    job = world.job()
    task = asyncio.create_task(world.build(vertex("top", None, leaf), job))
    await gate.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gate.cancelled == 1
    gate.opened.set()
    assert await world.build(vertex("top", None, leaf), job) == 1, "a cancellation was memoised"


async def test_scenario_13(world: World) -> None:
    gate = Gate()
    slow = vertex("a", value=1, before_exec=gate)
    first = asyncio.create_task(world.build(slow))
    second = asyncio.create_task(world.build(vertex("top", None, slow)))
    await gate.reached.wait()
    await asyncio.sleep(0.01)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    gate.opened.set()
    assert await second == 1
    assert gate.cancelled == 0
    assert world.execs["a"] == 1


@pytest.mark.parametrize("where", ["before_map", "before_exec"])
async def test_scenario_14_and_28(world: World, where: str) -> None:
    async def hook() -> None:
        raise asyncio.CancelledError

    values: dict[str, Any] = {where: hook}
    with pytest.raises(SolveError, match="cancelled by the op"):
        await world.build(vertex("a", **values))


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
    for number in range(1, 5000):
        chain = vertex(f"n{number}", None, chain, value=1)
    assert await world.build(chain) == 5000
    world.reset()
    assert await world.build(chain) == 5000
    assert world.execs.total() == 0
    assert world.results.loads == 1


async def test_failure_and_cancellation_under_a_deep_chain(world: World) -> None:
    async def fail() -> None:
        raise UserError("broken")

    gate = Gate()
    for hook in (fail, gate):
        chain = vertex("n0", before_exec=hook, tag=str(hook is gate))
        for number in range(1, 3000):
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


# Errors


async def test_scenario_26(world: World) -> None:
    async def fail() -> None:
        raise UserError("no map")

    with pytest.raises(SolveError, match="no map"):
        await world.build(vertex("top", None, vertex("a", before_map=fail)))
    assert world.execs.total() == 0


async def test_scenario_27(world: World) -> None:
    async def fail() -> None:
        error = UserError("exit code 3", hint="look closer")
        error.log_tail = [b"oops"]  # type: ignore[attr-defined]
        raise error

    span = SourceRange("Dockerfile", Position(1), Position(1))
    sources = (SourceExcerpt("Dockerfile", b"RUN false", (span,)),)
    bad = vertex("a", before_exec=fail, sources=sources)
    job = world.job()
    errors = []
    for top in (bad, vertex("top", None, bad), vertex("top2", None, bad)):
        with pytest.raises(SolveError) as caught:
            await world.build(top, job)
        errors.append(caught.value)
    assert errors[0] is errors[1] is errors[2]
    error = errors[0]
    assert (str(error), error.hint, error.vertex) == ("exit code 3", "look closer", bad)
    assert error.sources == sources
    assert error.log_tail == [b"oops"]
    assert isinstance(error.__cause__, UserError)
    assert world.execs == {"a": 1}


async def test_unexpected_exception_surfaces_as_itself(world: World) -> None:
    async def fail() -> None:
        raise ZeroDivisionError("bug")

    with pytest.raises(ZeroDivisionError, match="bug"):
        await world.build(vertex("top", None, vertex("a", before_exec=fail)))


async def test_scenario_29(world: World) -> None:
    gate = Gate()

    async def fail() -> None:
        await gate.reached.wait()
        raise UserError("broken")

    top = vertex("top", None, vertex("a", before_exec=gate), vertex("b", before_exec=fail))
    with pytest.raises(SolveError, match="broken"):
        await world.build(top)
    assert gate.cancelled == 1


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


# Ignored caches


async def test_scenario_35(world: World) -> None:
    source = vertex("a", value=1)
    assert await world.build(source) == 1
    assert await world.build(ignoring(source, value=2)) == 2
    assert await world.build(source) == 2, "the result was not saved"


def above(leaf: Vertex, value: int = 10, **values: Any) -> Vertex:
    return vertex("top", None, leaf, value=value, **values)


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


# Jobs, parallelism and progress


async def test_job_ids_are_unique_while_in_use(world: World) -> None:
    job = world.solver.new_job("x")
    with pytest.raises(ConflictError, match="`x`"):
        world.solver.new_job("x")
    await job.discard()
    await job.discard()
    world.solver.new_job("x")


async def test_discard_at_the_moment_of_completion(world: World) -> None:
    gate, sink = Gate(), Sink()
    job = world.job()
    job.subscribe(sink)
    task = asyncio.create_task(job.build(Edge(vertex("a", before_exec=gate))))
    await gate.reached.wait()
    gate.opened.set()
    for _ in range(50):
        await asyncio.sleep(0)
        if any(isinstance(e, VertexEvent) and e.completed for e in sink.events[-1:]):
            break
    await job.discard()
    try:
        result = await task
    except asyncio.CancelledError:
        return
    assert result is not None
    await result.release()


async def test_discard_stops_what_runs(world: World) -> None:
    gate, sink = Gate(), Sink()
    source = vertex("a", before_exec=gate)
    job = world.job()
    job.subscribe(sink)
    task = asyncio.create_task(job.build(Edge(source)))
    await gate.reached.wait()
    await job.discard()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gate.cancelled == 1
    assert sink.of(source)[-1].error == "context canceled"


@pytest.mark.parametrize(
    ("limit", "is_limited", "most"), [(1, True, 1), (1, False, 3), (2, True, 2)]
)
async def test_scenario_74(limit: int, is_limited: bool, most: int) -> None:
    world = World(limit)
    running: list[int] = [0, 0]
    sink = Sink()
    job = world.job()
    job.subscribe(sink)

    async def hook() -> None:
        running[0] += 1
        running[1] = max(running)
        started = [e for e in sink.events if isinstance(e, VertexEvent) and e.started]
        assert started
        await asyncio.sleep(0.01)
        running[0] -= 1

    base = vertex("base")
    inputs = [vertex(n, None, base, before_exec=hook, is_limited=is_limited) for n in "abc"]
    await world.build(vertex("top", None, *inputs), job)
    await world.solver.close()
    assert running[1] == most
    depth = 0
    names = {each.digest for each in inputs}
    for event in sink.events:
        if isinstance(event, VertexEvent) and event.digest in names and event.started:
            depth += -1 if event.completed else 1
            assert depth <= most


async def test_progress_of_a_run_and_of_its_cached_repetition(world: World) -> None:
    leaf = vertex("a", value=1)
    middle = vertex("middle", None, leaf)
    low = vertex("low", None, middle)
    top = vertex("top", None, low)
    job, early, late = world.job(), Sink(), Sink()
    job.subscribe(early)
    await world.build(top, job)
    await world.build(top, job)
    job.subscribe(late)
    assert late.events == early.events
    events = early.of(top)
    assert [(bool(e.started), bool(e.completed), e.cached) for e in events] == [
        (False, False, False),
        (True, False, False),
        (True, True, False),
    ]
    assert events[0].inputs == (low.digest,)
    assert [e.data for e in early.events if isinstance(e, LogEvent)] == [b"ran"] * 4
    statuses = [e for e in early.events if isinstance(e, StatusEvent)]
    assert all(e.completed and e.started and e.name == "n" for e in statuses)
    await job.discard()

    again, sink = world.job(), Sink()
    again.subscribe(sink)
    await world.build(top, again)
    for each in (top, low, middle):
        last = sink.of(each)[-1]
        assert last.cached
        assert last.started
        assert last.completed is not None
        assert last.completed >= last.started
    assert sink.of(middle)[0].started is None


async def test_failure_is_reported_once(world: World) -> None:
    async def fail() -> None:
        raise UserError("broken")

    bad = vertex("a", before_exec=fail)
    job, sink = world.job(), Sink()
    job.subscribe(sink)
    with pytest.raises(SolveError):
        await world.build(vertex("top", None, bad), job)
    assert [e.error for e in sink.of(bad) if e.error] == ["broken"]
    assert [e.name for e in sink.events if isinstance(e, VertexEvent) and e.error] == ["a"]
