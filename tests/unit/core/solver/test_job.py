"""Jobs: sharing, cancelling, ending. Numbers are those of the solver reference, section 15."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.core.solver.fakes import TIMEOUT, Gate, Sink, World, vertex

from torana.core.errors import (
    ConflictError,
    UserError,
)
from torana.core.solver.failure import SolveError, UnknownJobError
from torana.core.solver.progress import LogEvent, ProgressEvent, StatusEvent, VertexEvent
from torana.core.solver.vertex import Edge, Vertex

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


async def test_scenario_72(world: World) -> None:
    with pytest.raises(UnknownJobError, match="no such job x"):
        await world.solver.find_job("x", timeout_s=0.01)
    waiting = asyncio.create_task(world.solver.find_job("x", timeout_s=TIMEOUT))
    await asyncio.sleep(0)
    job = world.solver.new_job("x")
    assert await waiting is job
    assert await world.solver.find_job("x") is job


async def test_job_can_be_found_for_a_while_after_its_end(world: World) -> None:
    job = world.job()
    assert await world.build(vertex("a"), job) == 0
    await job.discard()
    assert await world.solver.find_job(job.id, timeout_s=0.01) is job
    assert [event async for event in job.events()]
    assert list(world.solver.jobs()) == []
    again = world.solver.new_job(job.id)
    assert await world.solver.find_job(job.id) is again


async def test_events_are_replayed_and_end_with_the_job(world: World) -> None:
    gate = Gate()
    job, sink = world.job(), Sink()
    job.subscribe(sink)

    async def read() -> list[ProgressEvent]:
        return [event async for event in job.events()]

    readers = [asyncio.create_task(read())]
    task = asyncio.create_task(world.build(vertex("a", before_exec=gate), job))
    await gate.reached.wait()
    readers.append(asyncio.create_task(read()))
    gate.opened.set()
    await task
    await job.discard()
    job.emit(sink.events[0])
    assert await readers[0] == await readers[1] == sink.events
    job.unsubscribe(sink)


async def test_sessions_are_those_of_all_jobs_that_need_a_vertex(world: World) -> None:
    gate = Gate()
    inner = vertex("inner", before_exec=gate)
    jobs = [world.solver.new_job(name, session_id=f"session {name}") for name in "ab"]
    tasks = [
        asyncio.create_task(world.build(vertex("outer", nested=inner), jobs[0])),
        asyncio.create_task(world.build(inner, jobs[1])),
    ]
    await gate.reached.wait()
    await asyncio.sleep(0.01)
    active = next(each for each in world.solver.graph if each.vertex.name == "inner")
    assert set(active.context.sessions()) == {"session a", "session b"}
    tasks[1].cancel()
    await jobs[1].discard()
    assert list(active.context.sessions()) == ["session a"]
    gate.opened.set()
    assert await tasks[0] == 0


async def test_cleanups_run_when_nobody_needs_the_vertex(world: World) -> None:
    done: list[str] = []

    async def clean() -> None:
        done.append("clean")

    first, second = world.job(), world.job()
    for job in (first, second):
        await world.build(vertex("a"), job)
    next(iter(world.solver.graph)).context.add_cleanup(clean)
    await first.discard()
    assert done == []
    await second.discard()
    assert done == ["clean"]


async def test_critical_path_goes_first() -> None:
    world = World(1)
    order: list[str] = []

    def noted(name: str, *inputs: Vertex) -> Vertex:
        async def note() -> None:
            order.append(name)
            await asyncio.sleep(0)

        return vertex(name, None, *inputs, is_limited=True, before_exec=note)

    short = [noted(f"short{number}") for number in range(5)]
    chain = noted("c0")
    for number in range(1, 5):
        chain = noted(f"c{number}", chain)
    await world.build(vertex("top", None, *short, chain))
    await world.close()
    # The first in line had the slot already; from then on the chain is never behind.
    assert order[:5] == ["short0", "c0", "c1", "c2", "c3"], "c4 is as good as any other"


async def test_keys_that_cannot_be_written_fail_the_build(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(world.solver, "_keys", SimpleNamespace(flush=fail))
        with pytest.raises(OSError, match="disk full"):
            await world.build(vertex("a"))
