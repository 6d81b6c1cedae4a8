"""`SolveError`: the failure of a vertex, as everybody who waits for it sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from torana.core.errors import NotFoundError, ToranaError
from torana.core.records import dataclass
from torana.core.solver.op import Result
from torana.core.solver.vertex import Vertex


@dataclass(slots=True, eq=False)
class FailedInput:
    """The input that an op could not digest. Valid until released, or until its builds end."""

    position: int
    result: Result | None

    async def release(self) -> None:
        """Give the handle back; doing it again does nothing."""
        result, self.result = self.result, None
        if result is not None:
            await result.release()


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedSolve:
    """What can be looked at after a failure, by ids that a gateway's containers take.

    Ids of mounts are in the op's order; an empty one is scratch, or nothing. `op` has its bytes.
    """

    input_ids: tuple[str, ...]
    mount_ids: tuple[str, ...]
    op: bytes = b""
    description: Mapping[str, str] = field(default_factory=dict)


class SolveError(ToranaError):
    """An op failed: text and hint are the op's, sources are the vertex's; `__cause__` is the op's.

    `log_tail` is the last output of the step when the op's error had one, else None. `input` is
    there when the content of an input could not be computed, `failed` when a gateway has kept the
    state of a failed step.
    """

    code = "SOLVE_FAILED"

    def __init__(self, vertex: Vertex, cause: BaseException) -> None:
        hint = cause.hint if isinstance(cause, ToranaError) else None
        super().__init__(str(cause) or type(cause).__name__, hint=hint, sources=vertex.sources)
        self.vertex = vertex
        self.input: FailedInput | None = None
        self.failed: FailedSolve | None = None
        self.log_tail: Any = getattr(cause, "log_tail", None)
        self.__cause__ = cause


class UnknownJobError(NotFoundError):
    """No build with that id is running, nor has ended just now."""

    code = "JOB_UNKNOWN"


class SchedulerError(Exception):
    """The scheduler broke a promise to itself; whoever waited gets this instead of waiting on."""
