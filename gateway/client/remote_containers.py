"""`RemoteContainer`: a frontend's container at the other end.

Each process has an `ExecProcess` stream of its own. One could serve all of them, but then output
that nobody reads would hold up the others; separate streams have separate flow control.

Spec: `ExecProcess` of LLBBridge; the order of its messages in the gateway reference.
"""

from __future__ import annotations

import asyncio
import fnmatch
import logging
import secrets
import signal
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from torana.core.errors import ConflictError, ToranaError, UserError
from torana.gateway.client import client as c
from torana.gateway.client import remote
from torana.gateway.client.container_messages import init_message
from torana.gateway.client.containers import STDIN, Output, ProcessSpec
from torana.gateway.protocol import gateway_pb2 as pb
from torana.gateway.protocol.errors import CANCELLED, RemoteError, error_of

if TYPE_CHECKING:
    from torana.gateway.client.remote import RemoteClient

log = logging.getLogger(__name__)

_PIECE_BYTES: Final = 1 << 18  # of input in one message
_FILE_BYTES: Final = 16 << 20  # no larger one fits into an answer
_QUEUED: Final = 64  # pieces of output that wait to be read
_CLOSE_S: Final = 10
_UNKNOWN_CODE: Final = 255


class RemoteContainer:
    """A container; made by `RemoteClient.new_container`."""

    def __init__(self, client: RemoteClient, id: str) -> None:
        self._client = client
        self._id = id
        self._processes: list[RemoteProcess] = []
        self._is_released = False

    async def start(self, process: ProcessSpec) -> RemoteProcess:
        if self._is_released:
            raise ConflictError("container is released")
        started = RemoteProcess(self._client, self._id, process)
        self._processes.append(started)
        await started.start()
        return started

    async def read_file(
        self, path: str, *, mount: int = 0, offset: int = 0, length: int | None = None
    ) -> bytes:
        # BuildKit leaves the range out of account here, so what comes may be the whole file.
        end = None if length is None else offset + length
        span = pb.FileRange(Offset=0, Length=_FILE_BYTES if end is None else end)
        request = pb.ReadFileRequest(Ref=self._id, FilePath=path, Range=span, MountIndex=mount)
        data: bytes = (await remote.file_call(self._client, "ReadFileContainer", request)).Data
        return data[offset:end]

    async def read_dir(
        self, path: str, *, mount: int = 0, include: str | None = None
    ) -> Sequence[c.Stat]:
        found = await remote.read_dir(
            self._client, "ReadDirContainer", self._id, path, include, mount
        )
        # BuildKit leaves the pattern out of account here.
        return [e for e in found if not include or fnmatch.fnmatchcase(e.path, include)]

    async def stat(self, path: str, *, mount: int = 0) -> c.Stat:
        return await remote.stat_file(self._client, "StatFileContainer", self._id, path, mount)

    async def release(self) -> None:
        if self._is_released:
            return
        self._is_released = True
        try:
            await self._client.call(
                "ReleaseContainer", pb.ReleaseContainerRequest(ContainerID=self._id)
            )
        except RemoteError as err:
            # BuildKit answers with how processes ended, which those who asked know already.
            log.debug("release of container %s: %s", self._id, err.message)
        finally:
            for process in self._processes:
                await process.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.release()


class RemoteProcess:
    """A process and its stream."""

    def __init__(self, client: RemoteClient, container_id: str, spec: ProcessSpec) -> None:
        self._id = f"{container_id}:{secrets.token_hex(8)}"
        self._init = init_message(container_id, spec)
        self._has_stdin = STDIN in spec.descriptors
        self._open = set(spec.descriptors - {STDIN})
        self._output: asyncio.Queue[Output | None] = asyncio.Queue(_QUEUED)
        self._has_ended_output = False  # nothing more goes into the queue
        self._is_at_end = False  # nothing more comes out of it
        loop = asyncio.get_running_loop()
        self._started: asyncio.Future[None] = loop.create_future()
        self._exit: asyncio.Future[int] = loop.create_future()
        self._call = client.exec_process()
        self._reading = loop.create_task(self._read())

    async def start(self) -> None:
        """Wait until it runs.

        Raises:
            ToranaError: it does not.
        """
        try:
            await self._send(Init=self._init)
            await asyncio.shield(self._started)
        except BaseException:
            await self.close()
            raise

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), _PIECE_BYTES):
            if not self._has_stdin or self._exit.done():
                return
            piece = data[start : start + _PIECE_BYTES]
            await self._send(File=pb.FdMessage(Fd=STDIN, Data=piece))

    async def close_stdin(self) -> None:
        if self._has_stdin:
            self._has_stdin = False
            await self._send(File=pb.FdMessage(Fd=STDIN, EOF=True))

    async def read(self) -> Output | None:
        if self._is_at_end:
            return None
        output = await self._output.get()
        self._is_at_end = output is None
        return output

    async def resize(self, rows: int, columns: int) -> None:
        if not self._exit.done():
            await self._send(Resize=pb.ResizeMessage(Rows=rows, Cols=columns))

    async def signal(self, name: str) -> None:
        # An unknown name would end the stream.
        name = name.removeprefix("SIG")
        if f"SIG{name}" not in signal.Signals.__members__:
            raise UserError(f"unknown signal: `{name}`")
        if not self._exit.done():
            await self._send(Signal=pb.SignalMessage(Name=name))

    async def wait(self) -> int:
        return await asyncio.shield(self._exit)

    async def close(self) -> None:
        """End the stream; what runs at the other end is killed."""
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self.close_stdin()
                await self._call.half_close()
                while not self._reading.done():
                    if await self.read() is None:
                        await asyncio.wait([self._reading])
        except TimeoutError:
            self._call.cancel()
            await asyncio.wait([self._reading])

    async def _send(self, **content: object) -> None:
        message = pb.ExecMessage(ProcessID=self._id, **content)  # type: ignore[arg-type]  # one field
        await self._call.send(message)

    async def _read(self) -> None:
        error = ToranaError("process stream has ended")
        try:
            async for message in self._call:
                await self._take(message)
        except ToranaError as err:
            error = err
        finally:
            for future in (self._started, self._exit):
                if not future.done():
                    future.set_exception(error)
                    future.exception()  # seen, whether somebody waits or not
            await self._end_output()

    async def _take(self, message: pb.ExecMessage) -> None:
        match message.WhichOneof("Input"):
            case "Started":
                self._started.set_result(None)
            case "File":
                if message.File.Data:
                    await self._output.put(Output(message.File.Fd, message.File.Data))
                if message.File.EOF:
                    self._open.discard(message.File.Fd)
                    if not self._open:
                        await self._end_output()
            case "Exit":
                await self._take_exit(message.Exit)
            case "Done":
                await self._call.half_close()

    async def _take_exit(self, message: pb.ExitMessage) -> None:
        error = error_of(message.Error) if message.HasField("Error") else None
        if not self._started.done():
            self._started.set_exception(error or ToranaError("process did not start"))
            self._started.exception()
        if isinstance(error, RemoteError) and message.Code == _UNKNOWN_CODE and _is_failure(error):
            self._exit.set_exception(error)
            self._exit.exception()
        else:
            self._exit.set_result(message.Code)
        # The other end waits for the end of the input, whoever would have read it.
        await self.close_stdin()

    async def _end_output(self) -> None:
        if not self._has_ended_output:
            self._has_ended_output = True
            await self._output.put(None)


def _is_failure(error: RemoteError) -> bool:
    """Say whether a process failed in another way than by its exit code or a cancellation."""
    return error.exit_code is None and error.status.code != CANCELLED
