"""`LogLimiter`: how much of a step's output goes on to progress.

Spec: reference of exec, section 17.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from math import ceil
from typing import Final

from torana.core.records import dataclass

_KEPT_BYTES: Final = 256 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLimits:
    """Limits per stream and step; -1 is none."""

    size_bytes: int = 2 << 20
    bytes_per_s: int = 200 << 10

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> LogLimits:
        """Read BuildKit's two variables; what is not a number counts as not set."""
        return cls(
            size_bytes=_number(environment, "BUILDKIT_STEP_LOG_MAX_SIZE", cls().size_bytes),
            bytes_per_s=_number(environment, "BUILDKIT_STEP_LOG_MAX_SPEED", cls().bytes_per_s),
        )


class LogLimiter:
    """Passes output on until a stream is over its limit, and keeps the end of the rest."""

    def __init__(
        self,
        sink: Callable[[int, bytes], None],
        limits: LogLimits,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sink = sink
        self._limits = limits
        self._clock = clock
        self._streams: dict[int, _Stream] = {}
        self._last = _Tail()

    def write(self, stream: int, data: bytes) -> None:
        """Take a chunk of `stream`."""
        self._last.add(data)
        state = self._streams.get(stream)
        if state is None:
            state = self._streams[stream] = _Stream(self._limits, self._clock)
        allowed = state.take(len(data))
        passed = data[:allowed]
        if allowed == len(data):
            state.is_clipping = False
        else:
            if not state.is_clipping:
                state.is_clipping = True
                passed += f"\n[output clipped, log limit {state.reason} reached]\n".encode()
            state.clipped.add(data[allowed:])
        if passed:
            self._sink(stream, passed)

    def flush_clipped(self) -> None:
        """Pass on the end of what was clipped; for steps that failed."""
        for stream, state in self._streams.items():
            tail = state.clipped.take()
            if tail:
                self._sink(stream, tail)

    def last(self, limit_bytes: int = _KEPT_BYTES) -> bytes:
        """Give the end of all output, clipped or not, both streams in order of arrival."""
        return self._last.peek()[-limit_bytes:]


class _Stream:
    def __init__(self, limits: LogLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._created = clock()
        self._size = 0
        self.is_clipping = False
        self.reason = ""
        self.clipped = _Tail()

    def take(self, count: int) -> int:
        """Count `count` bytes and say how many of them are still allowed."""
        before = self._size
        self._size += count
        allowed = -1
        if self._limits.bytes_per_s != -1:
            allowed = max(1, ceil(self._clock() - self._created)) * self._limits.bytes_per_s
            self.reason = f"{_amount(self._limits.bytes_per_s)}/s"
        size = self._limits.size_bytes
        if size != -1 and (allowed == -1 or allowed > size):
            allowed = size
            self.reason = _amount(size)
        if allowed == -1:
            return count
        return max(0, min(count, allowed - before))


class _Tail:
    """The last bytes of what was added, in few copies."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._size = 0

    def add(self, data: bytes) -> None:
        self._chunks.append(data[-_KEPT_BYTES:])
        self._size += len(self._chunks[-1])
        while self._size - len(self._chunks[0]) >= _KEPT_BYTES:
            self._size -= len(self._chunks.popleft())

    def peek(self) -> bytes:
        return b"".join(self._chunks)[-_KEPT_BYTES:]

    def take(self) -> bytes:
        data = self.peek()
        self._chunks.clear()
        self._size = 0
        return data


def _amount(count: int) -> str:
    """Give a size as `2MiB`, `200KiB`."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= factor:
            return f"{count / factor:.4g}{unit}"
    return f"{count}B"


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    try:
        return int(environment.get(name, ""))
    except ValueError:
        return default
