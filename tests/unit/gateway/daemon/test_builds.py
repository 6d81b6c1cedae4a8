"""Builds by id, and their progress for early and late readers."""

from __future__ import annotations

import asyncio

import pytest

from torana.core.errors import ConflictError
from torana.core.oci.digest import Digest
from torana.core.solver.progress import LogEvent, ProgressEvent, StatusEvent, VertexEvent
from torana.gateway.daemon.builds import Builds, NoSuchJobError
from torana.gateway.daemon.progresslog import ProgressLog

STEP = Digest.of_text("step")


def counter(current: int, completed: float | None = None) -> StatusEvent:
    return StatusEvent(id="x", vertex=STEP, current=current, timestamp=1.0, completed=completed)


def line(text: str) -> LogEvent:
    return LogEvent(vertex=STEP, stream=1, data=text.encode(), timestamp=1.0)


async def read(log: ProgressLog) -> list[ProgressEvent]:
    return [event async for batch in log.batches() for event in batch]


async def test_a_call_may_come_before_its_build() -> None:
    builds = Builds()
    early = asyncio.create_task(builds.get("a", 5.0))
    await asyncio.sleep(0)
    build = builds.add("a")
    assert await early is build
    assert await builds.get("a", 0.0) is build


async def test_waiting_ends() -> None:
    builds = Builds()
    with pytest.raises(NoSuchJobError, match="no such job a"):
        await builds.get("a", 0.01)
    assert builds.find("a") is None and not builds._waiting


async def test_an_id_is_free_again_when_its_build_is_over() -> None:
    builds = Builds(linger_s=0.01)
    first = builds.add("a")
    with pytest.raises(ConflictError, match="job ID a exists"):
        builds.add("a")
    builds.end(first)
    assert builds.find("a") is first and len(builds) == 0
    second = builds.add("a")
    await asyncio.sleep(0.05)
    assert builds.find("a") is second
    builds.end(second)
    await asyncio.sleep(0.05)
    assert builds.find("a") is None


async def test_early_and_late_readers_get_everything() -> None:
    log = ProgressLog()
    early = asyncio.create_task(read(log))
    log.emit(line("1"))
    await asyncio.sleep(0)
    log.emit(line("2"))
    middle = asyncio.create_task(read(log))
    await asyncio.sleep(0)
    log.emit(line("3"))
    log.close()
    texts = [
        [event.data for event in events if isinstance(event, LogEvent)]
        for events in (await early, await middle, await read(log))
    ]
    assert texts == [[b"1", b"2", b"3"]] * 3


async def test_only_the_newest_counter_of_a_batch_is_sent() -> None:
    log = ProgressLog()
    for event in (counter(1), line("a"), counter(2), counter(3, completed=2.0)):
        log.emit(event)
    log.close()
    assert await read(log) == [line("a"), counter(3, completed=2.0)]


async def test_a_reader_that_leaves_does_no_harm() -> None:
    log = ProgressLog()
    gone = asyncio.create_task(read(log))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    log.emit(line("1"))
    log.close()
    assert await read(log) == [line("1")]


def test_steps_are_counted_as_they_are() -> None:
    log = ProgressLog()
    other = Digest.of_text("other")
    log.emit(VertexEvent(digest=STEP, name="a"))
    log.emit(VertexEvent(digest=other, name="b", started=1.0, completed=1.0, cached=True))
    log.emit(VertexEvent(digest=STEP, name="a", started=1.0, completed=2.0))
    steps = log.steps
    assert (steps.total, steps.completed, steps.cached, steps.warnings) == (2, 2, 1, 0)
