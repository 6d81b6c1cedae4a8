"""A solver whose ops count their calls, so that a test states what was not executed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torana.core.errors import (
    SourceExcerpt,
)
from torana.core.oci.digest import Digest
from torana.core.solver.cache import CacheSource
from torana.core.solver.job import Job
from torana.core.solver.memory import MemoryKeyStore, MemoryResultStore
from torana.core.solver.op import CacheMap, CacheMapInput, Op, Result
from torana.core.solver.opcontext import OpContext
from torana.core.solver.progress import ProgressEvent, VertexEvent
from torana.core.solver.slots import Slots
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
    is_split: bool = False  # one output for each input
    nested: Vertex | None = None  # built from inside, and added
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
        if self.fake.nested is not None:
            nested = await self.context.build(Edge(self.fake.nested))
            if nested is not None:
                assert isinstance(nested, FakeResult)
                values.append(nested.value)
                await nested.release()
        if self.fake.is_split:
            return [self.result(self.fake.value + value) for value in values]
        return [self.result(sum(values, start=self.fake.value))]

    def result(self, value: Any) -> FakeResult:
        self.world.live.made += 1
        return FakeResult(self.world.live, value, f"r{self.world.live.made}")


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
        self.slots = Slots(max_parallelism)
        self.reset()
        self.solver = Solver(
            resolve_op=self.resolve,
            keys=self.keys,
            results=self.results,
            slots=self.slots,
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

    async def build(self, vertex: Vertex | Edge, job: Job | None = None) -> Any:
        """Give the value of `vertex`; without `job` in one of its own that ends."""
        edge = vertex if isinstance(vertex, Edge) else Edge(vertex)
        owner = job or self.job()
        try:
            async with asyncio.timeout(TIMEOUT):
                result = await owner.build(edge)
            if result is None:
                return None
            assert isinstance(result, FakeResult)
            value = result.value
            await result.release()
            return value
        finally:
            if job is None:
                await owner.discard()

    async def close(self) -> None:
        """End everything, and see that nothing is left."""
        await self.solver.close()
        await self.results.clear()
        assert self.live.handles == 0, "a result was not released"
        assert len(self.solver.graph) == 0
        assert len(self.solver.scheduler.index) == 0
        assert self.slots.used == 0


def vertex(
    name: str,
    fake: Fake | None = None,
    *inputs: Vertex | Edge,
    ignore_cache: bool = False,
    export_cache: bool | None = None,
    cache_sources: tuple[CacheSource, ...] = (),
    tag: str = "",
    sources: tuple[SourceExcerpt, ...] = (),
    **values: Any,
) -> Vertex:
    """Give a vertex with a digest of `name`, `tag` and inputs; its seed is `name` by default."""
    edges = tuple(each if isinstance(each, Edge) else Edge(each) for each in inputs)
    parts = ",".join(f"{each.vertex.digest}{each.index or ''}" for each in edges)
    return Vertex(
        digest=Digest.of_text(f"{name} {tag} {parts}"),
        name=name,
        inputs=edges,
        sys=fake or Fake(**{"seed": name, **values}),
        options=VertexOptions(
            ignore_cache=ignore_cache, export_cache=export_cache, cache_sources=cache_sources
        ),
        sources=sources,
    )


def ignoring(source: Vertex, **values: Any) -> Vertex:
    """Give `source` again with its cache ignored, and other values of its op."""
    return replace(
        source,
        sys=replace(source.sys, **values),
        options=replace(source.options, ignore_cache=True),
    )


def above(leaf: Vertex, value: int = 10, **values: Any) -> Vertex:
    return vertex("top", None, leaf, value=value, **values)


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
