"""`SessionFrontends`: processes of frontends, kept from one build of a client session to the next.

What belongs to one session is used for no other one: its client is all that a frontend has heard
of before.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from torana.core.records import dataclass
from torana.gateway.runners.waiting import WaitingRoom
from torana.gateway.runners.workers import FrontendWorkers
from torana.gateway.session.manager import SessionManager
from torana.gateway.session.transport import Session


@dataclass(slots=True)
class _Kept:
    workers: FrontendWorkers
    build_count: int = 0
    watching: asyncio.Task[None] | None = None  # for the end of the session


class SessionFrontends:
    """Gives builds the workers of their session. Lives on one event loop."""

    def __init__(self, sessions: SessionManager) -> None:
        self._sessions = sessions
        self._kept: dict[str, _Kept] = {}
        self._room = WaitingRoom()  # of all sessions: what bounds them is the daemon's

    @asynccontextmanager
    async def of(self, session_id: str) -> AsyncIterator[FrontendWorkers]:
        """Have the workers for a build; without a session they end with it."""
        new = _Kept(FrontendWorkers(self._room))
        kept = self._kept.setdefault(session_id, new) if session_id else new
        kept.build_count += 1
        try:
            yield kept.workers
        finally:
            kept.build_count -= 1
            session = self._sessions.find(session_id) if session_id else None
            if session is None:
                if not kept.build_count:
                    await self._end(session_id, kept)
            elif kept.watching is None:
                kept.watching = asyncio.create_task(self._end_with(session, session_id, kept))

    async def close(self) -> None:
        """Stop all; for when no builds run any more."""
        for id, kept in list(self._kept.items()):
            if kept.watching is not None:
                kept.watching.cancel()
                await asyncio.gather(kept.watching, return_exceptions=True)
            await self._end(id, kept)

    async def _end_with(self, session: Session, id: str, kept: _Kept) -> None:
        await session.closed()
        await self._end(id, kept)

    async def _end(self, id: str, kept: _Kept) -> None:
        if self._kept.get(id) is kept:
            del self._kept[id]
        await kept.workers.close()
