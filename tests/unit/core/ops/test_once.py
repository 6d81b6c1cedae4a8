"""Equal work of builds that run at the same time is done once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from torana.core.cache.executions import Executions
from torana.core.database import Database
from torana.core.errors import NotFoundError, UserError
from torana.core.oci.digest import Digest
from torana.core.ops.once import OnceOp
from torana.core.ops.steplogs import SharedLog, StepLogs
from torana.core.solver.op import CacheMap, CacheMapInput, Result


class Tree:
    def __init__(self, id: str, content: str = "") -> None:
        self.id = id
        self.content = content
        self.is_released = False

    def clone(self) -> Tree:
        return Tree(self.id, self.content)

    async def release(self) -> None:
        self.is_released = True


async def content(result: Result) -> Digest:
    assert isinstance(result, Tree)
    return Digest.of_text(result.content)


class Results:
    def __init__(self) -> None:
        self.gone: set[str] = set()

    async def load(self, record_id: str) -> Result | None:
        if record_id in self.gone:
            raise NotFoundError(record_id)
        return None if record_id == "scratch" else Tree(record_id)

    def record_id(self, result: Result | None) -> str | None:
        if result is None:
            return "scratch"
        return None if result.id.startswith("local:") else result.id

    def exists(self, record_id: str) -> bool:
        return record_id not in self.gone


class Step:
    """An op that takes until it is let go."""

    is_limited = True

    def __init__(self, key: str = "sha256:key", *, need: CacheMapInput | None = None) -> None:
        self.key = key
        self.need = need or CacheMapInput()
        self.count = 0
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.error: Exception | None = None
        self.log: SharedLog | None = None
        self.outputs: Sequence[Result | None] = [Tree("made"), None]

    async def cache_map(self, index: int) -> tuple[CacheMap, bool]:
        return CacheMap(digest=Digest(self.key), inputs=(self.need,)), True

    async def exec(self, inputs: Sequence[Result]) -> Sequence[Result]:
        self.count += 1
        if self.log is not None:
            self.log.log(1, b"begun, ")
        await self.may_end.wait()
        if self.log is not None:
            self.log.log(1, b"ending, ")
        if self.error is not None:
            raise self.error
        return self.outputs  # type: ignore[return-value]  # scratch is None


class Log:
    def __init__(self) -> None:
        self.text = b""

    def log(self, stream: int, data: bytes) -> None:
        self.text += data


class Builds:
    """Makes ops of other builds, each with a database of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.results = Results()
        self.began = time.time()
        self.log = Log()
        self.logs = StepLogs()

    async def run(
        self, step: Step, *inputs: Tree, since: float | None = None, log: Log | None = None
    ) -> list[str | None]:
        database = Database(self.root / "torana.db")
        try:
            shared = step.log = SharedLog(log or self.log)
            op = OnceOp(
                step,
                executions=Executions(self.root, database),
                results=self.results,
                since=self.began if since is None else since,
                log=shared,
                logs=self.logs,
            )
            assert op.is_limited
            await op.cache_map(0)
            outputs = await op.exec(inputs)
            return [self.results.record_id(each) for each in outputs]
        finally:
            database.close()


@pytest.fixture
def builds(tmp_path: Path) -> Builds:
    return Builds(tmp_path)


async def test_the_second_waits_and_takes_the_outcome(builds: Builds) -> None:
    first, second = Step(), Step()
    first.may_end.clear()
    running = asyncio.create_task(builds.run(first, Tree("in")))
    while not first.count:
        await asyncio.sleep(0)
    waiting = asyncio.create_task(builds.run(second, Tree("in")))
    while b"waiting" not in builds.log.text:
        await asyncio.sleep(0)
    first.may_end.set()
    assert await running == await waiting == ["made", "scratch"]
    assert (first.count, second.count) == (1, 0)
    assert b"done by another build" in builds.log.text


async def test_who_waits_in_the_same_process_reads_along(builds: Builds) -> None:
    first, second = Step(), Step()
    log = Log()
    first.may_end.clear()
    running = asyncio.create_task(builds.run(first, Tree("in")))
    while not first.count:
        await asyncio.sleep(0)
    waiting = asyncio.create_task(builds.run(second, Tree("in"), log=log))
    while b"begun" not in log.text:
        await asyncio.sleep(0)
    first.may_end.set()
    await asyncio.gather(running, waiting)
    assert log.text.startswith(b"waiting: another build is running the same step\nbegun, ending, ")
    assert builds.log.text == b"begun, ending, "
    other = Log()
    await builds.run(Step(), Tree("in"), log=other)
    assert other.text == b"done by another build\n"


def test_a_shared_log_keeps_the_newest_of_what_was_printed() -> None:
    shared, reader = SharedLog(Log()), Log()
    logs = StepLogs()
    with logs.share("a", shared):
        for letter in b"abc":
            shared.log(1, bytes([letter]) * (600 << 10))
        assert logs.find("a") is shared
        with shared.read_by(reader):
            shared.log(2, b"end")
        shared.log(1, b"later")
    assert logs.find("a") is None
    assert reader.text == b"c" * (600 << 10) + b"end"


async def test_whoever_began_later_asks_the_cache_instead(builds: Builds) -> None:
    await builds.run(Step(), Tree("in"))
    again = Step()
    await builds.run(again, Tree("in"))
    assert again.count == 0
    await builds.run(again, Tree("in"), since=time.time() + 1)
    assert again.count == 1


async def test_another_input_is_other_work(builds: Builds) -> None:
    await builds.run(Step(), Tree("in"))
    for step, tree in ((Step(), Tree("other")), (Step("sha256:else"), Tree("in"))):
        await builds.run(step, tree)
        assert step.count == 1


async def test_equal_content_counts_where_it_is_looked_at(builds: Builds) -> None:
    need = CacheMapInput(content_digest=content)
    await builds.run(Step(need=need), Tree("local:1", "x"))
    same, other = Step(need=need), Step(need=need)
    await builds.run(same, Tree("local:2", "x"))
    await builds.run(other, Tree("local:3", "y"))
    assert (same.count, other.count) == (0, 1)


@pytest.mark.parametrize(("key", "id"), [("random:1", "in"), ("sha256:key", "local:1")])
async def test_what_cannot_be_compared_runs_each_time(builds: Builds, key: str, id: str) -> None:
    step = Step(key)
    for _ in range(2):
        await builds.run(step, Tree(id))
    assert step.count == 2


async def test_a_failure_is_not_shared(builds: Builds) -> None:
    failing, second = Step(), Step()
    failing.error = UserError("no")
    with pytest.raises(UserError):
        await builds.run(failing, Tree("in"))
    assert await builds.run(second, Tree("in")) == ["made", "scratch"]
    assert second.count == 1


async def test_an_outcome_that_is_gone_is_made_again(builds: Builds) -> None:
    await builds.run(Step(), Tree("in"))
    builds.results.gone.add("made")
    again = Step()
    assert await builds.run(again, Tree("in")) == ["made", "scratch"]
    assert again.count == 1


async def test_an_outcome_that_cannot_be_stored_is_not_noted(builds: Builds) -> None:
    step = Step()
    step.outputs = [Tree("local:out")]
    for _ in range(2):
        await builds.run(step, Tree("in"))
    assert step.count == 2


async def test_waiting_can_be_cancelled(builds: Builds) -> None:
    first, second = Step(), Step()
    first.may_end.clear()
    running = asyncio.create_task(builds.run(first, Tree("in")))
    while not first.count:
        await asyncio.sleep(0)
    waiting = asyncio.create_task(builds.run(second, Tree("in")))
    while b"waiting" not in builds.log.text:
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    first.may_end.set()
    await running
    assert second.count == 0
