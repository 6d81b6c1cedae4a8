"""Progress as data: a stream of frozen events from solver to display, history and gRPC `Status`.

Spec: `VertexStatus` and friends of BuildKit's control API; times are seconds since the epoch.
"""

from __future__ import annotations

from typing import Protocol

from torana.core.errors import SourceRange
from torana.core.oci.digest import Digest
from torana.core.records import dataclass
from torana.core.solver.vertex import ProgressGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class VertexEvent:
    """State of a vertex: announced (no times), started, completed; the latest event counts."""

    digest: Digest
    name: str
    inputs: tuple[Digest, ...] = ()
    started: float | None = None
    completed: float | None = None
    cached: bool = False
    error: str = ""
    progress_group: ProgressGroup | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusEvent:
    """A counter under a vertex, such as `transferring context: 12kB / 3MB`; `total` 0: unknown."""

    id: str
    vertex: Digest
    name: str = ""
    current: int = 0
    total: int = 0
    timestamp: float
    started: float | None = None
    completed: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEvent:
    """Output of a running step; `stream` is 1 (stdout) or 2 (stderr)."""

    vertex: Digest
    stream: int
    data: bytes
    timestamp: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WarningEvent:
    """A warning of a frontend or op; `level` 1 is the default, higher is more verbose."""

    vertex: Digest | None
    short: str
    level: int = 1
    detail: tuple[str, ...] = ()
    url: str = ""
    ranges: tuple[SourceRange, ...] = ()
    data: bytes = b""  # text of the build file that the ranges are of


ProgressEvent = VertexEvent | StatusEvent | LogEvent | WarningEvent


class ProgressSink(Protocol):
    """Takes events in order, on the event loop; must not block."""

    def emit(self, event: ProgressEvent) -> None: ...
