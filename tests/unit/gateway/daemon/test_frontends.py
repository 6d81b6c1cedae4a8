"""Which builds share processes of frontends, and when those end."""

from __future__ import annotations

import asyncio

from torana.gateway.daemon.frontends import SessionFrontends
from torana.gateway.runners.workers import FrontendWorkers
from torana.gateway.session.local import LocalSession
from torana.gateway.session.manager import SessionManager


def is_closed(workers: FrontendWorkers) -> bool:
    return workers._is_closed


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_builds_of_a_session_share_until_it_ends() -> None:
    sessions = SessionManager()
    frontends = SessionFrontends(sessions)
    session = LocalSession((), id="one")
    with sessions.registered(session):
        async with frontends.of("one") as first:
            pass
        async with frontends.of("one") as second, frontends.of("other") as third:
            assert second is first
            assert third is not first
        assert is_closed(third)  # its session never came
        await settle()
        assert not is_closed(first)
        session.close()
        await settle()
        assert is_closed(first)


async def test_the_next_session_of_that_name_begins_anew() -> None:
    sessions = SessionManager()
    frontends = SessionFrontends(sessions)
    found = []
    for _ in range(2):
        session = LocalSession((), id="one")
        with sessions.registered(session):
            async with frontends.of("one") as workers:
                found.append(workers)
            session.close()
            await settle()
    assert found[0] is not found[1]
    assert all(map(is_closed, found))


async def test_without_a_session_nothing_is_shared() -> None:
    frontends = SessionFrontends(SessionManager())
    async with frontends.of("") as one, frontends.of("") as other:
        assert one is not other
    assert is_closed(one)
    assert is_closed(other)


async def test_one_that_ends_while_a_build_runs_keeps_nothing() -> None:
    sessions = SessionManager()
    frontends = SessionFrontends(sessions)
    session = LocalSession((), id="one")
    with sessions.registered(session):
        async with frontends.of("one") as workers:
            session.close()
    assert is_closed(workers)


async def test_a_daemon_that_stops_stops_all() -> None:
    sessions = SessionManager()
    frontends = SessionFrontends(sessions)
    with sessions.registered(LocalSession((), id="one")):
        async with frontends.of("one") as workers:
            pass
        await frontends.close()
    assert is_closed(workers)
