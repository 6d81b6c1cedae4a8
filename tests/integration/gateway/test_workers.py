"""Processes of frontends that build more than once in a session."""

from __future__ import annotations

import ast
import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.gateway.conftest import Events
from tests.sites import Site

from torana.core.errors import ToranaError
from torana.core.solver.progress import LogEvent
from torana.gateway.bridge.inprocess import InProcessClient
from torana.gateway.client.client import Result
from torana.gateway.runners.finder import FrontendFinder
from torana.gateway.runners.workers import FrontendWorkers
from torana.plugins.manager import PluginManager

pytestmark = pytest.mark.needs("root", "crun")

TOP = """
import os, resource, subprocess, sys, time
from pathlib import Path
from torana.core.errors import UserError
from torana.gateway.client.client import Result
print('imported', file=sys.stderr)
SEEN = []
"""
BODY = """
        what = client.options["what"]
        SEEN.append(what)
        files = [name.partition("-")[0] for name in os.listdir(os.environ["TMPDIR"])]
        limits = [resource.getrlimit(kind) for kind in (resource.RLIMIT_AS, resource.RLIMIT_CPU)]
        names = ("PATH", "TMPDIR", "ADDED", "LANG")
        found = {
            "seen": SEEN, "cwd": os.getcwd(), "files": files, "limits": limits,
            "environment": {name: os.environ.get(name) for name in names},
            "path": sys.path, "umask": os.umask(0o22), "open": sorted(os.listdir("/proc/self/fd")),
            "processes": sum(name.isdigit() for name in os.listdir("/proc")),
            "patched": hasattr(os, "patched"),
        }
        print("building", file=sys.stderr)
        match what:
            case "mess":
                os.chdir(os.environ["TMPDIR"])
                os.environ["ADDED"] = "1"
                del os.environ["PATH"]
                sys.path.insert(0, "/nowhere")
                os.patched = True
                os.umask(0o77)
                resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31))
                Path(os.environ["TMPDIR"], "folder").mkdir()
                Path(os.environ["TMPDIR"], "folder/left").write_text("over")
                Path(os.environ["TMPDIR"], "link").symlink_to("/usr")
                subprocess.Popen(["sleep", "1000"])  # it does not keep the log open
                open("/dev/null")
            case "mistake":
                raise UserError("wrong file")
            case "crash":
                raise ValueError("no luck")
            case "exit":
                os._exit(3)
            case "print":
                print("stray")
            case "spin":
                deadline = time.process_time() + 3
                while time.process_time() < deadline:
                    pass
            case "attack":
                try:
                    open("/proc/1/mem", "rb")
                    found["attack"] = "worked"
                except OSError as err:
                    found["attack"] = type(err).__name__
        return Result(metadata={"found": repr(found).encode()})
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


async def build(finder: FrontendFinder, client: InProcessClient, what: str) -> dict[str, Any]:
    """Build, and give what the frontend found."""
    client._options["what"] = what
    result: Result = await finder("again").build(client)
    found: dict[str, Any] = ast.literal_eval(result.metadata["found"].decode())
    return found


def said(events: Events) -> str:
    return b"".join(event.data for event in events.of(LogEvent)).decode()


def waiting(workers: FrontendWorkers) -> set[int]:
    """Give the ids of the processes that wait for builds."""
    return {each.process.pid for each in workers._room.waiting()}


async def test_second_build_uses_the_same_process(
    finder: FrontendFinder, workers: FrontendWorkers, inprocess: InProcessClient, events: Events
) -> None:
    await build(finder, inprocess, "build")
    (process,) = waiting(workers)
    for what, error in (
        ("mistake", "wrong file"),
        ("crash", "no luck"),
        ("print", "`stray`"),
        ("exit", "exit code: 3"),
    ):
        with pytest.raises(ToranaError, match=error):
            await build(finder, inprocess, what)
        assert waiting(workers) == {process}
    await build(finder, inprocess, "build")
    assert waiting(workers) == {process}
    assert said(events).count("building") == 6


async def test_nothing_passes_from_one_build_to_the_next(
    finder: FrontendFinder, workers: FrontendWorkers, inprocess: InProcessClient
) -> None:
    first = await build(finder, inprocess, "mess")
    second = await build(finder, inprocess, "mess")
    assert len(waiting(workers)) == 1
    assert second == first
    assert (first["seen"], first["files"]) == (["mess"], ["torana.gateway"])  # the connection's
    assert not first["patched"]


async def test_each_build_has_all_of_its_processor_time(
    finder: FrontendFinder,
    workers: FrontendWorkers,
    inprocess: InProcessClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TORANA_FRONTEND_LIMITS", "cpu=5s")
    for _ in range(3):
        await build(finder, inprocess, "spin")
    assert len(waiting(workers)) == 1


async def test_no_build_gets_at_the_process_that_waits(
    finder: FrontendFinder, inprocess: InProcessClient
) -> None:
    assert (await build(finder, inprocess, "attack"))["attack"] == "PermissionError"


async def test_other_limits_are_another_process(
    finder: FrontendFinder,
    workers: FrontendWorkers,
    inprocess: InProcessClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = await build(finder, inprocess, "build")
    monkeypatch.setenv("TORANA_FRONTEND_LIMITS", "memory=3g")
    other = await build(finder, inprocess, "build")
    assert [found["limits"][0][0] >> 30 for found in (one, other)] == [2, 3]
    assert len(waiting(workers)) == 2


async def test_builds_at_once_have_processes_of_their_own(
    finder: FrontendFinder, workers: FrontendWorkers, inprocess: InProcessClient
) -> None:
    await asyncio.gather(*(build(finder, inprocess, "build") for _ in range(2)))
    assert len(waiting(workers)) == 2


async def test_one_that_was_killed_is_replaced(
    finder: FrontendFinder, workers: FrontendWorkers, inprocess: InProcessClient
) -> None:
    await build(finder, inprocess, "build")
    (idle,) = workers._room.waiting()
    idle.signal(signal.SIGKILL)
    await idle.process.wait()
    await build(finder, inprocess, "build")


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
