"""Frontends in processes of their own: how they end, and what they may not."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
from tests.integration.gateway.conftest import Events

from torana.core.errors import BuildFileError, Position, ToranaError
from torana.core.solver.progress import LogEvent, VertexEvent
from torana.gateway.bridge.inprocess import InProcessClient
from torana.gateway.runners.child import ChildFrontend
from torana.gateway.runners.conversation import FrontendFailedError
from torana.gateway.runners.crashes import FrontendCrashedError
from torana.gateway.testing.clients import failing

pytestmark = pytest.mark.needs("root", "crun")

PROGRAM = """
import asyncio, json, os, socket, sys
from torana.core.errors import BuildFileError, SourceRange
from torana.core.llb import mkfile, scratch
from torana.gateway.client.client import Result, SolveRequest
from torana.gateway.runners.serving import serve
{setup}

class Probe:
    name = "probe"

    async def build(self, client):
{body}

sys.exit(asyncio.run(serve(Probe(), os.environ)))
"""
CONFINE = """
from torana.gateway.runners.confinement import confine
from torana.gateway.runners.limits import Limits
from torana.gateway.runners.privateroot import python_paths
confine(os.environ["TMPDIR"], Limits(memory_bytes=1 << 30, cpu_s=20), python_paths())
"""


def frontend(body: str, setup: str = "") -> ChildFrontend:
    """Give a frontend whose `build` is `body`."""
    text = "\n".join("        " + line for line in body.strip().splitlines())
    program = PROGRAM.format(body=text, setup=setup)
    return ChildFrontend("probe", command=(sys.executable, "-c", program))


@pytest.fixture
def runtime_name() -> str:
    return "crun"


def said(events: Events) -> str:
    return b"".join(event.data for event in events.of(LogEvent)).decode()


async def test_result(inprocess: InProcessClient, events: Events) -> None:
    body = """
os.write(1, b"to the log, not into the connection\\n")
definition = scratch().file(mkfile("/made", client.options["two"].encode())).marshal()
return await client.solve(SolveRequest(definition=definition))
"""
    result = await frontend(body).build(inprocess)
    assert result.ref is not None
    assert await result.ref.read_file("/made") == b"a=b"
    assert said(events) == "to the log, not into the connection\n"
    (vertex,) = {e.name for e in events.of(VertexEvent) if e.name.startswith("[frontend]")}
    assert vertex == "[frontend] probe"


async def test_crash_is_told_with_its_place(inprocess: InProcessClient, events: Events) -> None:
    with pytest.raises(FrontendCrashedError, match=r"`probe` crashed at .*: ValueError: no luck"):
        await frontend("raise ValueError('no luck')").build(inprocess)
    assert "Traceback (most recent call last)" in said(events)


async def test_errors_keep_their_class_and_place(inprocess: InProcessClient) -> None:
    body = "raise BuildFileError('wrong', SourceRange.lines('file', 3), hint='look again')"
    with pytest.raises(BuildFileError) as caught:
        await frontend(body).build(inprocess)
    assert (caught.value.message, caught.value.hint) == ("wrong", "look again")
    assert caught.value.at is not None
    assert (caught.value.at.filename, caught.value.at.start) == ("file", Position(3))


async def test_failed_step_keeps_its_place(inprocess: InProcessClient) -> None:
    inputs = {"failing": failing()}
    body = """
inputs = await client.inputs()
return await client.solve(SolveRequest(definition=inputs["failing"], evaluate=True))
"""
    inprocess._inputs.update(inputs)
    with pytest.raises(Exception, match="absent") as caught:
        await frontend(body).build(inprocess)
    (excerpt, *_) = caught.value.sources  # type: ignore[attr-defined]  # an error of ours
    assert excerpt.filename == "build.file"


async def test_exit_without_a_result(inprocess: InProcessClient) -> None:
    with pytest.raises(FrontendFailedError, match="exit code: 7") as caught:
        await frontend("os.write(2, b'bye'); await client.inputs(); os._exit(7)").build(inprocess)
    assert caught.value.log == b"bye"
    assert caught.value.hint == "its last calls: Ping, Inputs"


async def test_what_it_started_ends_with_it(inprocess: InProcessClient) -> None:
    body = """
import subprocess
subprocess.Popen(["sleep", "1000"])
return Result()
"""
    result = await frontend(body).build(inprocess)  # does not wait for whoever has the log open
    assert result.ref is None


async def test_unknown_name(inprocess: InProcessClient) -> None:
    with pytest.raises(FrontendFailedError) as caught:
        await ChildFrontend("nosuch").build(inprocess)
    assert b"no such frontend" in caught.value.log


async def test_cancellation_kills(inprocess: InProcessClient, tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    body = f"""
open({str(mark)!r}, "w").write(str(os.getpid()))
await asyncio.sleep(1000)
"""
    building = asyncio.ensure_future(frontend(body).build(inprocess))
    while not mark.exists() or not mark.read_text():
        await asyncio.sleep(0.01)
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    assert not Path("/proc", mark.read_text()).exists()


async def test_confinement(inprocess: InProcessClient) -> None:
    body = """
def attempt(act):
    try:
        return str(act())
    except (OSError, MemoryError) as err:
        return type(err).__name__ + " " + str(getattr(err, "errno", ""))

status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
report = {
    "interfaces": [name for _, name in socket.if_nameindex()],
    "processes": [name for name in os.listdir("/proc") if name.isdigit()],
    "capabilities": {status[key].strip() for key in ("CapEff", "CapPrm", "CapBnd")}.pop(),
    "no_new_privileges": status["NoNewPrivs"].strip(),
    "write": attempt(lambda: open("/etc/torana-test", "w")),
    "home": attempt(lambda: open(os.path.expanduser("~/.profile"))),
    "passwords": attempt(lambda: open("/etc/shadow")),
    "remount": attempt(lambda: os.mkdir("/usr/torana-test")),
    "dial": attempt(lambda: socket.create_connection(("127.0.0.1", 9))),
    "memory": attempt(lambda: len(bytearray(2 << 30))),
    "temporary": attempt(lambda: open(os.environ["TMPDIR"] + "/x", "w").write("yes")),
}
return Result(metadata={"report": json.dumps(report).encode()})
"""
    result = await frontend(body, setup=CONFINE).build(inprocess)
    report = json.loads(result.metadata["report"])
    assert report == {
        "interfaces": ["lo"],
        "processes": ["1"],
        "capabilities": "0" * 16,
        "no_new_privileges": "1",
        "write": "OSError 30",
        "home": "FileNotFoundError 2",
        "passwords": "FileNotFoundError 2",
        "remount": "OSError 30",
        "dial": "OSError 101",
        "memory": "MemoryError ",
        "temporary": "3",
    }


@pytest.mark.parametrize("is_confined", [False, True])
async def test_nothing_is_left(
    inprocess: InProcessClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_confined: bool
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with pytest.raises(ToranaError, match="no access allowed to dir"):
        await ChildFrontend("dockerfile", is_confined=is_confined).build(inprocess)
    with pytest.raises(FrontendFailedError):
        await frontend("await client.inputs(); os._exit(1)").build(inprocess)
    assert os.listdir(folder) == []
