"""`ExecStream`: the processes of one `ExecProcess` stream.

Each process has a task that hands on its output and its end; answers of all of them go into one
short queue, so that a client that reads slowly slows the processes down. Input for a process waits
in a queue of its own, for a process that does not read must not keep the stream from others.

Spec: reference of the gateway, "Gateway containers".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Final

from torana.core.errors import ToranaError, UserError
from torana.core.pool import tasks_together
from torana.gateway.bridge.bridge import Bridge, status_error
from torana.gateway.client.container_messages import process_spec_of
from torana.gateway.client.containers import STDIN, STDOUT, Process, ProcessSpec
from torana.gateway.protocol import details
from torana.gateway.protocol import gateway_pb2 as pb
from torana.gateway.protocol.errors import (
    ALREADY_EXISTS,
    INVALID_ARGUMENT,
    NOT_FOUND,
    OK,
    OUT_OF_RANGE,
    UNKNOWN,
    status_of,
)
from torana.gateway.protocol.status_pb2 import Status

_ANSWERS: Final = 16
_INPUT_BYTES: Final = 4 << 20  # that wait for one process
_UNKNOWN_CODE: Final = 255


class ExecStream:
    """Takes the messages of a client, gives the answers to it."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._answers: asyncio.Queue[pb.ExecMessage | None] = asyncio.Queue(_ANSWERS)
        self._served: dict[str, _Served] = {}
        self._tasks: asyncio.TaskGroup

    async def answers(
        self, requests: AsyncIterator[pb.ExecMessage]
    ) -> AsyncIterator[pb.ExecMessage]:
        """Serve the stream: when it is left, its processes have ended.

        Raises:
            RemoteError: a message makes no sense here; the status has the code for it.
        """
        async with tasks_together() as self._tasks:
            reading = self._tasks.create_task(self._read(requests))
            while (answer := await self._answers.get()) is not None:
                yield answer
            await reading

    async def _read(self, requests: AsyncIterator[pb.ExecMessage]) -> None:
        async for message in requests:
            await self._take(message)
        # Whoever closes the stream wants no more of its processes.
        for served in self._served.values():
            await served.abandon()
        while any(not served.is_done for served in self._served.values()):
            await asyncio.wait([served.task for served in self._served.values()])
        await self._answers.put(None)

    async def _take(self, message: pb.ExecMessage) -> None:
        id = message.ProcessID
        if not id:
            raise status_error(INVALID_ARGUMENT, "ProcessID cannot be empty")
        kind = message.WhichOneof("Input")
        served = self._served.get(id)
        if kind == "Init":
            if served is not None:
                raise status_error(ALREADY_EXISTS, f"process {id} already exists")
            self._start(id, message.Init)
            return
        if served is None:
            raise status_error(NOT_FOUND, f"process {id} not found")
        match kind:
            case "File":
                await served.input(message.File)
            case "Resize":
                await served.resize(message.Resize.Rows, message.Resize.Cols)
            case "Signal":
                await served.signal(message.Signal.Name)
            case _:
                raise status_error(INVALID_ARGUMENT, f"message is not for the daemon: {kind}")

    def _start(self, id: str, init: pb.InitMessage) -> None:
        container = self._bridge.container(init.ContainerID)
        spec = process_spec_of(init)
        self._bridge.note(f"ExecProcess({' '.join(spec.args)})")
        served = _Served(id, spec, self._answers)
        self._served[id] = served
        served.task = self._tasks.create_task(served.serve(container.start(spec)))


class _Served:
    """One process on the stream."""

    task: asyncio.Task[None]

    def __init__(
        self, id: str, spec: ProcessSpec, answers: asyncio.Queue[pb.ExecMessage | None]
    ) -> None:
        self._id = id
        self._spec = spec
        self._answers = answers
        self._process: Process | None = None
        self._started = asyncio.Event()
        self._input: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._waiting_bytes = 0
        self._has_room = asyncio.Event()
        self._has_stdin = STDIN in spec.descriptors
        self._stdin_ended = asyncio.Event()
        if not self._has_stdin:
            self._stdin_ended.set()
        self.is_done = False

    # What the client sends

    async def input(self, file: pb.FdMessage) -> None:
        if file.Fd != STDIN or self._stdin_ended.is_set():
            raise status_error(OUT_OF_RANGE, f"requested fd {file.Fd} was not open")
        if file.Data:
            self._waiting_bytes += len(file.Data)
            self._input.put_nowait(file.Data)
            while self._waiting_bytes > _INPUT_BYTES:
                self._has_room.clear()
                await self._has_room.wait()
        if file.EOF:
            self._stdin_ended.set()
            self._input.put_nowait(None)

    async def resize(self, rows: int, columns: int) -> None:
        await self._started.wait()
        if self._process is not None:
            await self._process.resize(rows, columns)

    async def signal(self, name: str) -> None:
        await self._started.wait()
        if self._process is not None:
            try:
                await self._process.signal(name)
            except UserError as err:
                raise status_error(INVALID_ARGUMENT, err.message) from None

    async def abandon(self) -> None:
        """Kill the process, and do not wait for the client any more."""
        if not self._stdin_ended.is_set():
            self._stdin_ended.set()
            self._input.put_nowait(None)
        if not self.is_done:
            await self.signal("KILL")

    # What it is told

    async def serve(self, starting: Awaitable[Process]) -> None:
        """Start the process and see it through to its end."""
        try:
            process = await starting
        except ToranaError as err:
            self._started.set()
            await self._send(Exit=pb.ExitMessage(Code=_UNKNOWN_CODE, Error=status_of(err)))
            await self._close()
            return
        self._process = process
        self._started.set()
        await self._send(Started=pb.StartedMessage())
        has_ended = False
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._feed(process))
                output = group.create_task(self._forward(process))
                code, status = await _outcome(process)
                has_ended = True
                await self._send(Exit=pb.ExitMessage(Code=code, Error=status))
                await output
                await self._close()
        finally:
            if not has_ended:  # the stream broke
                await process.signal("KILL")

    async def _close(self) -> None:
        for number in sorted(self._spec.descriptors - {STDIN}):
            await self._send(File=pb.FdMessage(Fd=number, EOF=True))
        await self._stdin_ended.wait()
        self.is_done = True
        await self._send(Done=pb.DoneMessage())

    async def _feed(self, process: Process) -> None:
        if not self._has_stdin:
            return
        while (data := await self._input.get()) is not None:
            await process.write(data)
            self._waiting_bytes -= len(data)
            self._has_room.set()
        await process.close_stdin()

    async def _forward(self, process: Process) -> None:
        while (output := await process.read()) is not None:
            number = STDOUT if self._spec.is_terminal else output.descriptor
            await self._send(File=pb.FdMessage(Fd=number, Data=output.data))

    async def _send(self, **content: object) -> None:
        await self._answers.put(pb.ExecMessage(ProcessID=self._id, **content))  # type: ignore[arg-type]  # one field


async def _outcome(process: Process) -> tuple[int, Status | None]:
    try:
        code = await process.wait()
    except ToranaError as err:
        return _UNKNOWN_CODE, status_of(err)
    if code == OK:
        return code, None
    detail = details.pack(pb.ExitMessage(Code=code))
    return code, Status(code=UNKNOWN, message=f"exit code: {code}", details=[detail])
