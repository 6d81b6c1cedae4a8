"""`StepLogs`: what running steps print, for all builds of this process that wait for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

# How much of what a step has printed is kept for builds that come to wait for it, in bytes.
_KEPT = 1 << 20


class StepLog(Protocol):
    """Where a step's output goes; `stream` is 1 or 2."""

    def log(self, stream: int, data: bytes) -> None: ...


class SharedLog:
    """The log of one step of one build; others may read along while it is shared."""

    def __init__(self, own: StepLog) -> None:
        self._own = own
        self._readers: list[StepLog] = []
        self._kept: deque[tuple[int, bytes]] = deque()
        self._size = 0
        self._is_shared = False

    def log(self, stream: int, data: bytes) -> None:
        self._own.log(stream, data)
        if not self._is_shared:
            return
        self._kept.append((stream, data))
        self._size += len(data)
        while self._size > _KEPT and len(self._kept) > 1:
            self._size -= len(self._kept.popleft()[1])
        for reader in self._readers:
            reader.log(stream, data)

    def begin(self) -> None:
        """Keep what is printed from now on."""
        self._is_shared = True

    def end(self) -> None:
        """Forget what was kept."""
        self._is_shared = False
        self._kept.clear()
        self._size = 0

    @contextmanager
    def read_by(self, reader: StepLog) -> Iterator[None]:
        """Give `reader` what was printed, and what is while entered."""
        for stream, data in self._kept:
            reader.log(stream, data)
        self._readers.append(reader)
        try:
            yield
        finally:
            self._readers.remove(reader)


class StepLogs:
    """The logs of what runs, by its identity. One of these serves all builds of a worker."""

    def __init__(self) -> None:
        self._running: dict[str, SharedLog] = {}

    @contextmanager
    def share(self, identity: str, log: SharedLog) -> Iterator[None]:
        """Let others read `log` while entered."""
        self._running[identity] = log
        log.begin()
        try:
            yield
        finally:
            del self._running[identity]
            log.end()

    def find(self, identity: str) -> SharedLog | None:
        """Give the log of what runs in this process, if it does."""
        return self._running.get(identity)
