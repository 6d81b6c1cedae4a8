"""Frontends of others on a real `toranad`: one process for the builds of a session."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from tests.sites import Site

from torana.gateway.protocol import control_pb2 as pb
from torana.gateway.protocol import limits
from torana.gateway.protocol.calls import remote_errors
from torana.gateway.protocol.control_pb2_grpc import ControlStub
from torana.gateway.session.client import attach_control, new_id
from torana.gateway.testing.daemons import RunningDaemon

pytestmark = pytest.mark.needs("root")

# The only process that it can see besides its own is the one that waits: when that was started is
# its identity.
TOP = """
from torana.gateway.client.client import Result
COUNT = []
"""
BODY = """
        COUNT.append(1)
        started = open("/proc/1/stat").read().rpartition(")")[2].split()[19]
        return Result(metadata={"frontend.started": started.encode(),
                                "frontend.count": str(len(COUNT)).encode()})
""".strip()


async def build(channel: grpc.aio.Channel, session: str) -> tuple[str, str]:
    """Give when the frontend's process was started, and what it had built before."""
    control: Any = ControlStub(channel)
    request = pb.SolveRequest(Ref=new_id(), Session=session, Frontend="warm", Internal=True)
    with remote_errors():
        answer = (await control.Solve(request)).ExporterResponse
    return answer["frontend.started"], answer["frontend.count"]


async def test_builds_of_a_session_share_a_process_and_nothing_else(
    start: Callable[..., RunningDaemon], tmp_path: Path
) -> None:
    site = Site(tmp_path)
    site.frontend("warm", top=TOP, body=BODY)
    daemon = start(PYTHONPATH=str(tmp_path))
    async with grpc.aio.insecure_channel(daemon.target, options=limits.CHANNEL) as channel:
        found = []
        for _ in range(2):
            id = new_id()
            async with attach_control(channel, [], id=id):
                found.append([await build(channel, id) for _ in range(2)])
    (one, again), (other, _) = found
    assert one == again
    assert one[0] != other[0]
    assert {count for builds in found for _, count in builds} == {"1"}


def _runs(started: str) -> bool:
    """Say whether a Python that was started then is running, as a process of another one would."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
        except OSError:  # it has just ended
            continue
        if name.startswith("python") and rest.split()[19] == started and rest.split()[0] != "Z":
            return True
    return False


async def test_a_process_that_waits_dies_with_the_daemon(
    start: Callable[..., RunningDaemon], tmp_path: Path
) -> None:
    Site(tmp_path).frontend("warm", top=TOP, body=BODY)
    daemon = start(PYTHONPATH=str(tmp_path))
    async with grpc.aio.insecure_channel(daemon.target, options=limits.CHANNEL) as channel:
        id = new_id()
        async with attach_control(channel, [], id=id):
            started, _ = await build(channel, id)
            assert _runs(started)
            daemon.process.send_signal(signal.SIGKILL)
            async with asyncio.timeout(60):
                while _runs(started):
                    await asyncio.sleep(0.02)
