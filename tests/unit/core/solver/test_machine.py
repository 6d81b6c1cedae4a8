"""Random graphs, jobs, failures and cancellations, compared with a naive evaluator.

Every answer must be what evaluating the graph anew gives, no op may run twice in the life of its
vertex, and when all jobs have ended nothing may be left: no task, result, vertex or slot. The loop
is driven step by step, so that a build that no longer moves is found by its number of steps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)
from tests.unit.core.solver.fakes import Fake, FakeOp, FakeResult, World, vertex

from torana.core.errors import UserError
from torana.core.solver.failure import SolveError
from torana.core.solver.job import Job
from torana.core.solver.op import Op, Result
from torana.core.solver.opcontext import OpContext
from torana.core.solver.vertex import Edge, Vertex

MAX_STEPS = 20_000


class OnceOp(FakeOp):
    """Runs at most once at a time, and never again after it gave a result."""

    is_running = False
    is_done = False

    async def exec(self, inputs: Sequence[Result]) -> Sequence[Result]:
        assert not self.is_running, "the op runs twice at once"
        assert not self.is_done, "the op ran again"
        self.is_running = True
        try:
            outputs = await super().exec(inputs)
        finally:
            self.is_running = False
        self.is_done = True
        return outputs


class OnceWorld(World):
    def resolve(self, vertex: Vertex, context: OpContext) -> Op:
        return OnceOp(self, vertex, context)


def evaluate(source: Vertex, known: dict[Vertex, int | None]) -> int | None:
    """Give the value of a vertex, None if it fails; scratch counts 0."""
    if source not in known:
        fake: Fake = source.sys
        values = [evaluate(edge.vertex, known) for edge in source.inputs]
        if fake.nested is not None:
            values.append(evaluate(fake.nested, known))
        present = [value for value in values if value is not None]
        if "!" in fake.seed or len(present) < len(values):
            known[source] = None
        else:
            known[source] = 0 if fake.is_scratch else sum(present, start=fake.value)
    return known[source]


@dataclass
class Build:
    task: asyncio.Task[Any]
    expected: int | None
    is_cancelled: bool = False


class SolverMachine(RuleBasedStateMachine):
    vertices = Bundle("vertices")
    jobs = Bundle("jobs")
    builds = Bundle("builds")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.errors: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.errors.append(context))
        self.known: dict[Vertex, int | None] = {}
        self.open: list[Build] = []
        self.count = 0

    @initialize(target=vertices, limit=st.sampled_from([0, 0, 1, 2]))
    def begin(self, limit: int) -> Any:
        self.world = OnceWorld(limit)
        return multiple(*(self.make(f"leaf{n}", value=n + 1, delay=n) for n in range(3)))

    def make(
        self, seed: str, *inputs: Vertex, delay: int, is_map_slow: bool = False, **values: Any
    ) -> Vertex:
        async def wait() -> None:
            for _ in range(delay):
                await asyncio.sleep(0)
            if "!" in seed:
                raise UserError(f"{seed} fails")

        async def wait_for_map() -> None:
            for _ in range(delay):
                await asyncio.sleep(0)

        self.count += 1
        return vertex(
            seed,
            None,
            *inputs,
            before_exec=wait,
            before_map=wait_for_map if is_map_slow else None,
            is_limited="nest" not in seed and delay % 2 == 0,
            **values,
        )

    @rule(
        target=vertices,
        number=st.integers(0, 3),
        chain=st.integers(0, 2),
        tag=st.integers(0, 3),
        kind=st.sampled_from(["plain", "plain", "random", "image", "scratch", "fails"]),
        ignore_cache=st.booleans(),
        delay=st.integers(0, 4),
    )
    def add_leaf(
        self, number: int, chain: int, tag: int, kind: str, ignore_cache: bool, delay: int
    ) -> Vertex:
        seed = f"leaf{number}" if kind == "plain" else f"{kind}{number}"
        if kind == "image":  # two keys, the second of which tells what is in it
            return self.make(
                f"{seed}-{chain}",
                delay=delay,
                value=chain,
                more_seeds=(f"chain{chain}",),
                tag=str(tag),
                ignore_cache=ignore_cache,
            )
        return self.make(
            seed + "!" * (kind == "fails"),
            delay=delay,
            value=number + 1,
            tag=str(tag),
            is_random=kind == "random",
            is_scratch=kind == "scratch",
            is_map_slow=tag == 1,
            ignore_cache=ignore_cache and tag == 0,
        )

    @rule(
        target=vertices,
        inputs=st.lists(vertices, min_size=1, max_size=4),
        number=st.integers(0, 2),
        tag=st.integers(0, 2),
        contents=st.sets(st.integers(0, 3)),
        selected=st.booleans(),
        ignore_cache=st.sampled_from([False, False, False, True]),
        delay=st.integers(0, 4),
    )
    def add_vertex(
        self,
        inputs: list[Vertex],
        number: int,
        tag: int,
        contents: set[int],
        selected: bool,
        ignore_cache: bool,
        delay: int,
    ) -> Vertex:
        wanted = tuple(sorted(each for each in contents if each < len(inputs)))
        return self.make(
            f"op{number} of {len(inputs)}",  # an op says how many inputs it has
            *inputs,
            delay=delay,
            value=10 * number,
            contents=wanted,
            selectors=("sel",) if selected else (),
            tag=f"{tag}{wanted}{selected}",
            is_map_slow=tag == 1,
            ignore_cache=ignore_cache,
        )

    @rule(target=vertices, nested=vertices, inputs=st.lists(vertices, max_size=2))
    def add_nest(self, nested: Vertex, inputs: list[Vertex]) -> Vertex:
        return self.make(f"nest {nested.digest} {len(inputs)}", *inputs, delay=1, nested=nested)

    @rule(target=jobs)
    def start_job(self) -> Job:
        return self.world.job()

    @rule(target=builds, job=jobs, wanted=vertices)
    def start_build(self, job: Job, wanted: Vertex) -> Any:
        if job.is_discarded:
            return multiple()
        expected = evaluate(wanted, self.known)
        build = Build(self.loop.create_task(job.build(Edge(wanted))), expected)
        self.open.append(build)
        return build

    @rule(count=st.integers(1, 40))
    def step(self, count: int) -> None:
        for _ in range(count):
            self.loop.run_until_complete(asyncio.sleep(0))

    @rule(build=builds)
    def cancel(self, build: Build) -> None:
        if not build.task.done():
            build.is_cancelled = True
            build.task.cancel()

    @rule(build=consumes(builds))
    def finish(self, build: Build) -> None:
        self.run_until(build.task)
        self.check(build)

    @rule(job=jobs)
    def discard(self, job: Job) -> None:
        self.run(job.discard())

    @rule(number=st.integers(0, 30))
    def lose_result(self, number: int) -> None:
        self.run(self.world.results.remove(f"r{number}"))

    @rule(count=st.integers(1, 3))
    def break_loads(self, count: int) -> None:
        self.world.results.failing = count

    def run(self, work: Coroutine[Any, Any, Any]) -> None:
        task = self.loop.create_task(work)
        self.run_until(task)
        task.result()

    def run_until(self, task: asyncio.Task[Any]) -> None:
        for _ in range(MAX_STEPS):
            if task.done():
                break
            self.loop.run_until_complete(asyncio.sleep(0))
        assert task.done(), "it does not come to an end"

    def check(self, build: Build) -> None:
        if build not in self.open:
            return
        self.open.remove(build)
        if build.task.cancelled():
            return
        error = build.task.exception()
        if error is not None:
            assert isinstance(error, SolveError), repr(error)
            assert build.expected is None, f"{error}, but {build.expected} was expected"
            return
        assert build.expected is not None, "it should have failed"
        result = build.task.result()
        if result is None:
            assert build.expected == 0
            return
        assert isinstance(result, FakeResult)
        assert result.value == build.expected
        self.loop.run_until_complete(result.release())

    @invariant()
    def nothing_went_wrong_unseen(self) -> None:
        assert not self.errors, self.errors

    def teardown(self) -> None:
        try:
            for job in self.world.solver.jobs():
                self.run(job.discard())
            for build in list(self.open):
                self.run_until(build.task)
                self.check(build)
            self.run(self.world.close())
            self.loop.run_until_complete(asyncio.sleep(0))
            assert not asyncio.all_tasks(self.loop)
            assert not self.errors, self.errors
        finally:
            self.loop.close()


TestSolver = SolverMachine.TestCase
TestSolver.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
