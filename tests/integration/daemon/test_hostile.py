"""Clients that open sessions and drop them, and clients that do not read what they are sent."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import grpc.aio
import pytest

from torana.core.llb import local
from torana.core.llb.definition import Definition
from torana.gateway.protocol import control_pb2 as pb
from torana.gateway.protocol import limits, ops_pb2
from torana.gateway.protocol.calls import remote_errors
from torana.gateway.protocol.control_pb2_grpc import ControlStub
from torana.gateway.session.client import attach_control, new_id, session_metadata
from torana.gateway.session.filesend import DIFF_COPY
from torana.gateway.session.filesync import FileSync
from torana.gateway.session.transport import Handler, Metadata, Stream, Streaming
from torana.gateway.testing.daemons import RunningDaemon

SESSIONS: Final = int(os.environ.get("TORANA_HOSTILE_SESSIONS", "1000"))
AT_ONCE: Final = 16
MIB: Final = 1 << 20
FILE_BYTES: Final = 192 * MIB


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def memory_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


async def drop_sessions(channel: grpc.aio.Channel, count: int) -> None:
    """Open sessions, a few at a time, and leave them in all ways there are."""
    control: Any = ControlStub(channel)
    numbers = iter(range(count))

    async def some() -> None:
        for number in numbers:
            call = control.Session(metadata=session_metadata(new_id(), "", []))
            with suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
                await call.initial_metadata()
                if number % 3 == 0:
                    call.cancel()
                elif number % 3 == 1:
                    await call.done_writing()
                    while await call.read() is not grpc.aio.EOF:
                        pass
                else:
                    await call.write(pb.BytesMessage(data=b"\0no HTTP/2 at all\r\n" * 8))
                    call.cancel()

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))


async def settled(pid: int, before: int) -> None:
    """Wait until no more files are open than before."""
    while open_files(pid) > before:
        await asyncio.sleep(0.05)


async def test_sessions_that_are_dropped_leave_nothing(daemon: RunningDaemon) -> None:
    pid = daemon.process.pid
    async with grpc.aio.insecure_channel(daemon.target, options=limits.CHANNEL) as channel:
        await drop_sessions(channel, 10 * AT_ONCE)  # what is made once is there now
        control: Any = ControlStub(channel)
        await control.Info(pb.InfoRequest())
        await asyncio.sleep(0)
        files, memory = open_files(pid), memory_bytes(pid)
        await drop_sessions(channel, SESSIONS)
        async with asyncio.timeout(60):
            await settled(pid, files + 2)
        await control.Info(pb.InfoRequest())
    assert threads(pid) < 64
    assert memory_bytes(pid) - memory < 16 * MIB + SESSIONS * 2048


class SlowTarget:
    """Takes one message of an export, and then no more until `go_on` is set."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.received = 0

    def methods(self) -> Mapping[str, Handler]:
        return {DIFF_COPY: Streaming(self._take)}

    async def _take(self, stream: Stream, metadata: Metadata) -> None:
        while (message := await stream.receive()) is not None:
            self.received += len(message)
            self.begun.set()
            await self.go_on.wait()


async def build(channel: grpc.aio.Channel, session: str, definition: Definition) -> None:
    message = ops_pb2.Definition.FromString(definition.encode())
    control: Any = ControlStub(channel)
    with remote_errors():
        await control.Solve(
            pb.SolveRequest(
                Ref=new_id(),
                Session=session,
                Definition=message,
                Exporters=[pb.Exporter(Type="tar")],
            )
        )


@pytest.fixture
async def slow(
    daemon: RunningDaemon, channel: grpc.aio.Channel, tmp_path: Path
) -> AsyncIterator[tuple[SlowTarget, asyncio.Future[None]]]:
    """An export of a big file that has begun, to a client that has stopped to read."""
    with open(tmp_path / "big", "wb") as file:
        file.truncate(FILE_BYTES)
    target, id = SlowTarget(), new_id()
    async with attach_control(channel, [FileSync({"context": tmp_path}), target], id=id):
        building = asyncio.ensure_future(build(channel, id, local("context").marshal()))
        async with asyncio.timeout(60):
            await target.begun.wait()
        yield target, building
        target.go_on.set()
    with suppress(Exception):
        await building


async def test_a_client_that_reads_slowly_costs_no_memory(
    daemon: RunningDaemon, slow: tuple[SlowTarget, asyncio.Future[None]]
) -> None:
    target, building = slow
    pid = daemon.process.pid
    memory = memory_bytes(pid)
    for _ in range(5):  # time enough to run ahead, if nothing held it back
        await asyncio.sleep(0.1)
        assert memory_bytes(pid) - memory < FILE_BYTES // 3
    assert not building.done()
    target.go_on.set()
    async with asyncio.timeout(60):
        await building
    assert target.received >= FILE_BYTES
