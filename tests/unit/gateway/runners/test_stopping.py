"""Stopping a frontend wherever it is."""

from __future__ import annotations

import asyncio
import signal

import pytest

from torana.core.errors import ToranaError
from torana.gateway.runners.stopping import Stopper


async def _spin() -> None:
    while True:
        await asyncio.sleep(0)


async def test_inside_of_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal that comes while asyncio schedules the next step of a task must not lose it."""
    loop = asyncio.get_running_loop()
    check = loop._check_closed  # type: ignore[attr-defined]  # called by all that schedules
    told: list[ToranaError | None] = []

    async def build() -> None:
        with Stopper("frontend", None) as stopper:
            spinning = asyncio.ensure_future(_spin())

            def interrupted() -> None:
                check()
                if stopper.error is None and asyncio.current_task() is spinning:
                    signal.raise_signal(signal.SIGXCPU)

            monkeypatch.setattr(loop, "_check_closed", interrupted)
            with pytest.raises(asyncio.CancelledError):
                await asyncio.gather(spinning)
            told.append(stopper.error)

    before = signal.getsignal(signal.SIGXCPU)
    try:
        done, _ = await asyncio.wait({asyncio.ensure_future(build())}, timeout=30)
    finally:
        signal.signal(signal.SIGXCPU, before)
    assert done, "the task was lost"
    await done.pop()
    assert told and told[0] is not None
