"""`TunnelSession`: a client behind a tunnel, as the engine sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager

from torana.core.errors import ToranaError
from torana.gateway.protocol.errors import UNAVAILABLE, error_of
from torana.gateway.session.http2 import Http2Client
from torana.gateway.session.http2call import Call, CallError, ConnectionEndedError
from torana.gateway.session.transport import Metadata, SessionLostError, Stream


class TunnelSession:
    """A client at the other end of `connection`. Its owner closes it when that ends."""

    def __init__(
        self, connection: Http2Client, *, id: str, shared_key: str, methods: Iterable[str]
    ) -> None:
        self.id = id
        self.shared_key = shared_key
        self._connection = connection
        self._methods = frozenset(method.lower() for method in methods)
        self._closed = asyncio.Event()
        self._reason = ""

    @property
    def is_closed(self) -> bool:
        return self._closed.is_set()

    async def closed(self) -> None:
        await self._closed.wait()

    def close(self, reason: str) -> None:
        """Note that the client is gone; its calls fail."""
        self._reason = self._reason or reason
        self._closed.set()
        self._connection.close()

    def supports(self, method: str) -> bool:
        return method.lower() in self._methods

    async def unary(self, method: str, request: bytes, metadata: Metadata = ()) -> bytes:
        async with self.stream(method, metadata) as stream:
            await stream.send(request)
            await stream.end()
            answer = await stream.receive()
            if answer is None:
                raise ToranaError(f"{method}: the client answered nothing")
            await stream.receive()  # the status
            return answer
        raise AssertionError("errors are raised")

    @asynccontextmanager
    async def stream(self, method: str, metadata: Metadata = ()) -> AsyncIterator[Stream]:
        with self.errors():
            call = await self._connection.open(method, metadata)
        try:
            yield _CallStream(self, call)
        finally:
            call.close()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise how a call ended as our errors."""
        try:
            yield
        except ConnectionEndedError:
            raise self._lost() from None
        except CallError as err:
            if err.status.code == UNAVAILABLE:
                raise self._lost(err.status.message) from None
            raise error_of(err.status) from None

    def _lost(self, details: str = "") -> ToranaError:
        text = self._reason or details
        reason = f": {text}" if text else ""
        return SessionLostError(
            f"client session {self.id} was lost{reason}",
            hint="the client of this build has ended or cannot be reached any more",
        )


class _CallStream:
    """The calling end of a stream."""

    def __init__(self, session: TunnelSession, call: Call) -> None:
        self._session = session
        self._call = call

    async def send(self, message: bytes) -> None:
        with self._session.errors():
            await self._call.send(message)

    async def receive(self) -> bytes | None:
        with self._session.errors():
            return await self._call.receive()
        raise AssertionError("errors are raised")

    async def end(self) -> None:
        with self._session.errors():
            await self._call.end()
