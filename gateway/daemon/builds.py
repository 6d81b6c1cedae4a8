"""`Builds`: the builds of a daemon by id, found by calls that may come before or after them.

Clients send Solve, Status and LLBBridge calls of one build at once, in any order; so whoever asks
for a build waits a while for it. A build that is over can still be asked for its progress for some
seconds.

Spec: wire reference, sequences, section 1.
"""

from __future__ import annotations

import asyncio
from typing import Final

from torana.core.errors import ConflictError, NotFoundError
from torana.gateway.bridge.bridge import Bridge
from torana.gateway.daemon.progresslog import ProgressLog

BRIDGE_WAIT_S: Final = 3.0
STATUS_WAIT_S: Final = 6.0
_LINGER_S: Final = 10.0


class NoSuchJobError(NotFoundError):
    """No build has this id."""

    code = "NO_SUCH_JOB"


class Build:
    """One build that was asked for; `bridge` answers LLBBridge calls while the build lasts."""

    def __init__(self, ref: str) -> None:
        self.ref = ref
        self.progress = ProgressLog()
        self.bridge: Bridge | None = None  # of a client that drives the build itself
        self.is_over = False


class Builds:
    """Lives on one event loop."""

    def __init__(self, *, linger_s: float = _LINGER_S) -> None:
        self._linger_s = linger_s
        self._builds: dict[str, Build] = {}
        self._waiting: dict[str, list[asyncio.Future[Build]]] = {}

    def __len__(self) -> int:
        """Give how many builds run."""
        return sum(not build.is_over for build in self._builds.values())

    def add(self, ref: str) -> Build:
        """Begin a build.

        Raises:
            ConflictError: one with this id runs.
        """
        known = self._builds.get(ref)
        if known is not None and not known.is_over:
            raise ConflictError(f"job ID {ref} exists")
        build = self._builds[ref] = Build(ref)
        for waiting in self._waiting.pop(ref, ()):
            if not waiting.done():
                waiting.set_result(build)
        return build

    def find(self, ref: str) -> Build | None:
        """Give a build that runs or has just ended."""
        return self._builds.get(ref)

    async def get(self, ref: str, timeout_s: float, *, is_running: bool = False) -> Build:
        """Give a build, waiting for it to begin; with `is_running` none that is over.

        Raises:
            NoSuchJobError: it did not within `timeout_s`.
        """
        known = self._builds.get(ref)
        if known is not None and not (is_running and known.is_over):
            return known
        arrival: asyncio.Future[Build] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(ref, []).append(arrival)
        try:
            async with asyncio.timeout(timeout_s):
                return await arrival
        except TimeoutError:
            raise NoSuchJobError(f"no such job {ref}") from None
        finally:
            others = self._waiting.get(ref, [])
            if arrival in others:
                others.remove(arrival)
                if not others:
                    del self._waiting[ref]

    def end(self, build: Build) -> None:
        """Say that a build is over; after a while it is forgotten."""
        build.is_over = True
        build.progress.close()
        asyncio.get_running_loop().call_later(self._linger_s, self._forget, build)

    def _forget(self, build: Build) -> None:
        if self._builds.get(build.ref) is build:
            del self._builds[build.ref]
