"""How the run of a frontend's process ends: what it returned, and what its exit makes of that.

Spec: reference of the gateway, "Running a frontend image", step 7.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from io import FileIO
from typing import Final, Protocol

from torana.core.errors import ToranaError
from torana.gateway.bridge.bridge import Bridge
from torana.gateway.client.client import Client, Result
from torana.gateway.protocol import details, errdefs_pb2
from torana.gateway.protocol.errors import RemoteError

_KEPT_BYTES: Final = 16 << 10
_READ_BYTES: Final = 64 << 10
_KILLED: Final = 128 + 9
_KILLED_HINT: Final = "it was killed, for too much processor time or memory; "


class FrontendFailedError(ToranaError):
    """A frontend's process ended without a result. `log` has the end of what it wrote."""

    code = "FRONTEND_FAILED"

    def __init__(self, message: str, *, log: bytes = b"", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.log = log


class Log(Protocol):
    """Takes output under a vertex; `stream` is 1 or 2."""

    def __call__(self, stream: int, data: bytes) -> None: ...


class HostClient(Client, Protocol):
    """A client on whose behalf frontends are run: it can show what they write."""

    def vertex(self, name: str) -> AbstractContextManager[Log]:
        """Show a vertex while entered; it has failed if an exception passes."""
        ...


class ErrorOutput:
    """Standard error of a process: goes to a log, and its end is kept.

    After `limit_bytes` nothing more is taken, and `is_over` says so.
    """

    def __init__(self, log: Log, limit_bytes: int | None = None) -> None:
        self._log = log
        self._left = limit_bytes
        self.is_over = asyncio.Event()
        self._kept: deque[bytes] = deque()
        self._size = 0

    def take(self, data: bytes) -> None:
        """Take what the process wrote."""
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
            if not self._left:
                self.is_over.set()
        self._log(2, data)
        self._kept.append(data[-_KEPT_BYTES:])
        self._size += len(self._kept[-1])
        while self._size - len(self._kept[0]) >= _KEPT_BYTES:
            self._size -= len(self._kept.popleft())

    def last(self) -> bytes:
        return b"".join(self._kept)[-_KEPT_BYTES:]


@asynccontextmanager
async def reading(output: ErrorOutput) -> AsyncIterator[FileIO]:
    """Have the write end of a pipe whose other end goes to `output`.

    The caller closes it when others have it. Without a failure, all that was written has been taken
    when this is left.
    """
    loop = asyncio.get_running_loop()
    read_end, write_end = (FileIO(end, mode) for end, mode in zip(os.pipe(), "rw", strict=True))
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), read_end
    )

    async def copy() -> None:
        while data := await reader.read(_READ_BYTES):
            output.take(data)

    copying = loop.create_task(copy())
    try:
        yield write_end
        await copying
    finally:
        copying.cancel()
        transport.close()
        write_end.close()


async def conclude(bridge: Bridge, name: str, code: int, output: ErrorOutput) -> Result:
    """Give the result of a frontend whose process has ended with `code`; `name` is for messages.

    Raises:
        ToranaError: the error that it returned.
        FrontendFailedError: it did not return, or failed after that.
    """
    if bridge.has_returned:
        result = await bridge.returned()
        if code == 0:
            return result
    if code == 0:
        raise FrontendFailedError(f"frontend {name}: no result for incomplete build")
    calls = ", ".join(bridge.calls) or "none"
    raise FrontendFailedError(
        f"frontend {name} did not complete successfully: exit code: {code}",
        log=output.last(),
        hint=f"{_KILLED_HINT}its last calls: {calls}"
        if code == _KILLED
        else f"its last calls: {calls}",
    )


@contextlib.contextmanager
def named(frontend: str, source: str = "") -> Iterator[None]:
    """Let errors that pass say which frontend they come from, as BuildKit's do."""
    try:
        yield
    except ToranaError as err:
        remote = _remote(err)
        if remote is not None:
            detail = details.pack(errdefs_pb2.Frontend(name=frontend, source=source))
            remote.status.details.insert(0, detail)
        raise


def _remote(error: BaseException | None) -> RemoteError | None:
    while error is not None and not isinstance(error, RemoteError):
        error = error.__cause__
    return error
