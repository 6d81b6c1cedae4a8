"""`WaitingRoom`: where processes of frontends wait for builds, not too many and not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Final, Protocol

from torana.core.records import dataclass

if TYPE_CHECKING:
    from torana.gateway.runners.workers import FrontendWorker

_MOST: Final = 8
_LONGEST_S: Final = 300.0


class CallLater(Protocol):
    """`call_later` of an event loop."""

    def __call__(self, delay: float, callback: Callable[..., Any], *args: Any) -> Timer: ...


class Timer(Protocol):
    """What is to happen later."""

    def cancel(self) -> None:
        """Let it not happen."""
        ...


@dataclass(slots=True, eq=False)
class _Guest:
    owner: object
    key: Hashable
    worker: FrontendWorker
    timer: Timer | None = None


class WaitingRoom:
    """Where workers of one or several owners wait. Lives on one event loop.

    The one that has waited the longest makes room where they are more than `most`; none waits
    longer than `longest_s`.
    """

    def __init__(
        self,
        *,
        most: int = _MOST,
        longest_s: float = _LONGEST_S,
        call_later: CallLater | None = None,  # None: the running loop's
    ) -> None:
        self._most = most
        self._longest_s = longest_s
        self._call_later = call_later
        self._guests: list[_Guest] = []  # the longest waiting first
        self._leaving: set[asyncio.Task[int]] = set()

    def waiting(self) -> list[FrontendWorker]:
        """Give those that wait, the longest waiting first."""
        return [guest.worker for guest in self._guests]

    async def enter(self, owner: object, key: Hashable, worker: FrontendWorker) -> None:
        """Let a worker wait until its owner calls for `key`."""
        later = self._call_later or asyncio.get_running_loop().call_later
        guest = _Guest(owner, key, worker)
        guest.timer = later(self._longest_s, self._tire, guest)
        self._guests.append(guest)
        while len(self._guests) > self._most:
            await self._leave(self._guests[0]).stop()

    def call(self, owner: object, key: Hashable) -> FrontendWorker | None:
        """Give the worker of an owner and a key that has waited the shortest, if there is one."""
        for guest in reversed(self._guests):
            if guest.owner is owner and guest.key == key:
                return self._leave(guest)
        return None

    async def dismiss(self, owner: object) -> None:
        """Stop all of an owner, and see the end of all that had waited too long."""
        for guest in [guest for guest in self._guests if guest.owner is owner]:
            await self._leave(guest).stop()
        await asyncio.gather(*self._leaving)

    def _leave(self, guest: _Guest) -> FrontendWorker:
        if guest.timer is not None:
            guest.timer.cancel()
        self._guests.remove(guest)
        return guest.worker

    def _tire(self, guest: _Guest) -> None:
        task = asyncio.ensure_future(self._leave(guest).stop())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
