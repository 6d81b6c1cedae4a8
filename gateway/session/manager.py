"""`SessionManager`: the clients that are connected to an engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar

from torana.core.errors import ConflictError, ToranaError, UserError
from torana.core.pool import tasks_together
from torana.gateway.session import health
from torana.gateway.session.transport import (
    Metadata,
    NoSessionError,
    Session,
    SessionLostError,
    value,
)

T = TypeVar("T")

ID: Final = "x-docker-expose-session-uuid"
SHARED_KEY: Final = "x-docker-expose-session-sharedkey"
METHOD: Final = "x-docker-expose-session-grpc-method"
WAIT_S: Final = 5.0


class SessionManager:
    """Finds sessions by id, waiting `wait_s` for one. Lives on one event loop."""

    def __init__(self, *, wait_s: float = WAIT_S) -> None:
        self._wait_s = wait_s
        self._sessions: dict[str, Session] = {}
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()

    @contextmanager
    def registered(self, session: Session) -> Iterator[None]:
        """Let a session be found while entered.

        Raises:
            ConflictError: there is one with the same id.
        """
        if session.id in self._sessions:
            raise ConflictError(f"session {session.id} is connected already")
        self._sessions[session.id] = session
        self._notify()
        try:
            yield
        finally:
            del self._sessions[session.id]
            self._notify()

    def find(self, id: str) -> Session | None:
        """Give the session of an id, which may have a prefix: `PREFIX:ID`."""
        session = self._sessions.get(_plain(id))
        return None if session is None or session.is_closed else session

    async def get(self, id: str) -> Session:
        """Give a session, waiting for one that is about to come.

        Raises:
            NoSessionError: it did not come in time.
        """
        try:
            async with asyncio.timeout(self._wait_s):
                while (session := self.find(id)) is None:
                    await self._changed.wait()
        except TimeoutError:
            raise NoSessionError(
                f"no active session for {_plain(id)}: context deadline exceeded",
                hint="the client of the build has gone, or never opened its session",
            ) from None
        return session

    async def any(self, ids: Sequence[str], use: Callable[[Session], Awaitable[T]]) -> T:
        """Give what the first session gives with which `use` succeeds, in the order of `ids`.

        Raises:
            NoSessionError: there are no ids.
            ToranaError: what failed for the last one.
        """
        failure: ToranaError = NoSessionError("no active sessions")
        for id in ids:
            try:
                return await use(await self.get(id))
            except ToranaError as err:
                failure = err
        raise failure

    @asynccontextmanager
    async def needed(self, id: str) -> AsyncIterator[None]:
        """Fail the block when the session `id` is lost in it; one that never comes does no harm.

        Raises:
            SessionLostError: it was connected, and its client is gone.
        """
        async with tasks_together() as group:
            watching = group.create_task(self._fail_when_lost(id))
            yield
            watching.cancel()

    async def _fail_when_lost(self, id: str) -> None:
        while (session := self.find(id)) is None:
            await self._changed.wait()
        await session.closed()
        raise SessionLostError(
            f"client session {session.id} was lost",
            hint="the client of this build has ended or cannot be reached any more",
        )

    async def serve(self, context: Any) -> None:
        """Serve a call of `Control.Session`, given its grpcio context, until the client leaves.

        Raises:
            UserError: the metadata names no session.
            ConflictError: its id is taken.
        """
        from torana.gateway.session.tunnel import CallBytes

        metadata: Metadata = [
            (key.lower(), text)
            for key, text in context.invocation_metadata() or ()
            if isinstance(text, str)
        ]
        await context.send_initial_metadata(())  # clients wait for it
        await self.serve_bytes(CallBytes(context), metadata)

    async def serve_bytes(self, outer: Any, metadata: Metadata) -> None:
        """Serve a session over a `tunnel.ByteStream`, as above."""
        from torana.gateway.session.http2 import Http2Client
        from torana.gateway.session.tunnelsession import TunnelSession

        id = value(metadata, ID)
        if not id:
            raise UserError("session without an id")
        checks = health.HealthChecks.asked_for(metadata)
        connection = Http2Client(outer)
        session = TunnelSession(
            connection,
            id=id,
            shared_key=value(metadata, SHARED_KEY),
            methods=[text for key, text in metadata if key == METHOD],
        )
        with self.registered(session):
            running = asyncio.ensure_future(connection.run())
            watching = asyncio.ensure_future(health.watch(session, checks))
            stopping = asyncio.ensure_future(self._stopping.wait())
            tasks: list[asyncio.Future[Any]] = [running, watching, stopping]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                reason = "the engine is stopping" if stopping.done() else _reason(running)
                has_failed = watching.done()
                if has_failed:
                    reason = watching.result()
                session.close(reason)
                await _ended(tasks)
            if has_failed:
                raise SessionLostError(f"session {id} is given up: {reason}")

    def close(self) -> None:
        """End all sessions; `serve` returns."""
        self._stopping.set()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _reason(running: asyncio.Future[Any]) -> str:
    """Give why a connection has ended."""
    if running.done() and not running.cancelled():
        error = running.exception()
        if isinstance(error, ToranaError):
            return error.message
    return "connection closed"


async def _ended(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Cancel tasks and wait for them; how they end does not count."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()


def _plain(id: str) -> str:
    _, colon, rest = id.partition(":")
    return rest if colon and rest else id
