"""Sessions in process: the engine calls the handlers of services directly."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from torana.core.errors import ToranaError
from torana.gateway.session.transport import (
    Handler,
    Metadata,
    MethodNotOfferedError,
    Service,
    SessionLostError,
    Stream,
    Streaming,
    Unary,
)

T = TypeVar("T")
_WINDOW: Final = 64  # messages on their way in one direction


class LocalSession:
    """A client in this process. `close` fails its open calls, as a lost connection would."""

    def __init__(
        self, services: Iterable[Service], *, id: str | None = None, shared_key: str = ""
    ) -> None:
        self.id = id or secrets.token_hex(12)
        self.shared_key = shared_key
        self._handlers = handlers(services)
        self._names = {name.lower() for name in self._handlers}
        self._closed = asyncio.Event()

    @property
    def is_closed(self) -> bool:
        return self._closed.is_set()

    async def closed(self) -> None:
        await self._closed.wait()

    def close(self) -> None:
        self._closed.set()

    def supports(self, method: str) -> bool:
        return method.lower() in self._names

    async def unary(self, method: str, request: bytes, metadata: Metadata = ()) -> bytes:
        self._check_open()
        handler = self._handlers.get(method)
        if not isinstance(handler, Unary):
            raise not_offered(method)
        return await self._unless_closed(asyncio.ensure_future(handler.call(request, metadata)))

    @asynccontextmanager
    async def stream(self, method: str, metadata: Metadata = ()) -> AsyncIterator[Stream]:
        self._check_open()
        handler = self._handlers.get(method)
        if not isinstance(handler, Streaming):
            raise not_offered(method)
        ours, theirs = pipe()
        serving = asyncio.ensure_future(self._serve(handler, theirs, metadata))
        try:
            yield ours
        finally:
            serving.cancel()
            await asyncio.wait([serving])

    async def _serve(self, handler: Streaming, end: MemoryStream, metadata: Metadata) -> None:
        try:
            await self._unless_closed(asyncio.ensure_future(handler.call(end, metadata)))
        except Exception as err:
            end.finish(err if isinstance(err, ToranaError | OSError) else ToranaError(str(err)))
        else:
            end.finish(None)

    def _check_open(self) -> None:
        if self.is_closed:
            raise SessionLostError(f"session {self.id} was closed")

    async def _unless_closed(self, task: asyncio.Future[T]) -> T:
        closing: asyncio.Future[Any] = asyncio.ensure_future(self._closed.wait())
        both: list[asyncio.Future[Any]] = [task, closing]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise SessionLostError(f"session {self.id} was closed")
            return task.result()
        finally:
            closing.cancel()
            task.cancel()
            await asyncio.wait(both)


def handlers(services: Iterable[Service]) -> dict[str, Handler]:
    """Put the handlers of services together; two for one method are a bug."""
    found: dict[str, Handler] = {}
    for service in services:
        for method, handler in service.methods().items():
            assert method not in found, f"two services for {method}"
            found[method] = handler
    return found


def not_offered(method: str) -> MethodNotOfferedError:
    return MethodNotOfferedError(f"method {method} not supported by the client")


class MemoryStream:
    """One end of a pair. Sending waits while the peer is far behind."""

    def __init__(self, outgoing: _Lane, incoming: _Lane) -> None:
        self._outgoing = outgoing
        self._incoming = incoming

    async def send(self, message: bytes) -> None:
        await self._outgoing.put(message)

    async def receive(self) -> bytes | None:
        return await self._incoming.get()

    async def end(self) -> None:
        self._outgoing.close(None)

    def finish(self, error: Exception | None) -> None:
        """End the call from the handler's end: what was sent arrives, then the end or `error`."""
        self._outgoing.close(error)
        self._incoming.close(error or ToranaError("the call is over"))


class _Lane:
    """Messages in one direction."""

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque()
        self._is_closed = False
        self._error: Exception | None = None
        self._changed = asyncio.Event()

    async def put(self, message: bytes) -> None:
        while len(self._messages) >= _WINDOW and not self._is_closed:
            await self._change()
        if self._is_closed:
            raise self._error or ToranaError("nothing can be sent after the end")
        self._messages.append(message)
        self._changed.set()

    async def get(self) -> bytes | None:
        while not self._messages and not self._is_closed:
            await self._change()
        if self._messages:
            self._changed.set()
            return self._messages.popleft()
        if self._error is not None:
            raise self._error
        return None

    def close(self, error: Exception | None) -> None:
        if not self._is_closed:
            self._is_closed, self._error = True, error
        elif error is not None:
            self._error = error
        self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


def pipe() -> tuple[MemoryStream, MemoryStream]:
    """Give two connected ends: the caller's, and the one for the handler."""
    there, back = _Lane(), _Lane()
    return MemoryStream(there, back), MemoryStream(back, there)
