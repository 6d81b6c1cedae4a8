"""Processes of frontends that build more than once in a session."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.gateway.conftest import Events
from tests.sites import Site

from torana.core.errors import ToranaError, UserError
from torana.core.solver.progress import LogEvent
from torana.gateway.bridge.inprocess import InProcessClient
from torana.gateway.client.client import Result
from torana.gateway.runners.finder import FrontendFinder
from torana.gateway.runners.workers import FrontendWorkers
from torana.plugins.manager import PluginManager

pytestmark = pytest.mark.needs("root", "crun")

TOP = "import os, subprocess, sys, time\nSTARTED = time.time_ns()\nprint('imported', file=sys.stderr)"
BODY = """
        print("building", file=sys.stderr)
        if client.options["what"] == "crash":
            raise ValueError("no luck")
        if client.options["what"] == "mistake":
            from torana.core.errors import UserError
            raise UserError("wrong file")
        if client.options["what"] == "print":
            print("stray")
        if client.options["what"] == "exit":
            os._exit(3)
        if client.options["what"] == "start":
            subprocess.Popen(["sleep", "1000"])
        from torana.gateway.client.client import Result
        return Result(metadata={"started": str(STARTED).encode()})
"""


@pytest.fixture
def runtime_name() -> str:
    return "crun"


@pytest.fixture
async def workers() -> AsyncIterator[FrontendWorkers]:
    made = FrontendWorkers()
    yield made
    await made.close()


@pytest.fixture
def finder(
    installed_site: Site, workers: FrontendWorkers, monkeypatch: pytest.MonkeyPatch
) -> FrontendFinder:
    installed_site.frontend("again", top=TOP, body=BODY.strip())
    monkeypatch.setenv("PYTHONPATH", str(installed_site.path))
    return FrontendFinder(PluginManager(), workers=workers)


async def build(finder: FrontendFinder, client: InProcessClient, what: str) -> Result:
    client._options["what"] = what
    result: Result = await finder("again").build(client)
    return result


def said(events: Events) -> str:
    return b"".join(event.data for event in events.of(LogEvent)).decode()


async def test_second_build_uses_the_same_process(
    finder: FrontendFinder, inprocess: InProcessClient, events: Events
) -> None:
    one = await build(finder, inprocess, "build")
    with pytest.raises(UserError, match="wrong file"):
        await build(finder, inprocess, "mistake")
    other = await build(finder, inprocess, "start")  # what it starts does not keep the log open
    assert one.metadata["started"] == other.metadata["started"]
    assert said(events).count("building") == 3
    assert said(events).count("imported") == 1


async def test_builds_at_once_have_processes_of_their_own(
    finder: FrontendFinder, inprocess: InProcessClient
) -> None:
    found = await asyncio.gather(*(build(finder, inprocess, "build") for _ in range(2)))
    assert len({result.metadata["started"] for result in found}) == 2


@pytest.mark.parametrize(
    ("what", "error"), [("exit", "exit code: 3"), ("crash", "no luck"), ("print", "`stray`")]
)
async def test_one_that_failed_is_replaced(
    finder: FrontendFinder, inprocess: InProcessClient, what: str, error: str
) -> None:
    one = await build(finder, inprocess, "build")
    with pytest.raises(ToranaError, match=error):
        await build(finder, inprocess, what)
    other = await build(finder, inprocess, "build")
    assert one.metadata["started"] != other.metadata["started"]


async def test_nothing_is_left_when_the_session_ends(
    finder: FrontendFinder,
    workers: FrontendWorkers,
    inprocess: InProcessClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    await build(finder, inprocess, "build")
    assert os.listdir(folder)
    await workers.close()
    assert os.listdir(folder) == []
