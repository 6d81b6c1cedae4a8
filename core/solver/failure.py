"""`SolveError`: the failure of a vertex, as everybody who waits for it sees it."""

from __future__ import annotations

from typing import Any

from torana.core.errors import ToranaError
from torana.core.solver.vertex import Vertex


class SolveError(ToranaError):
    """An op failed: text and hint are the op's, sources are the vertex's; `__cause__` is the op's.

    `log_tail` is the last output of the step when the op's error had one, else None.
    """

    code = "SOLVE_FAILED"

    def __init__(self, vertex: Vertex, cause: BaseException) -> None:
        hint = cause.hint if isinstance(cause, ToranaError) else None
        super().__init__(str(cause) or type(cause).__name__, hint=hint, sources=vertex.sources)
        self.vertex = vertex
        self.log_tail: Any = getattr(cause, "log_tail", None)
        self.__cause__ = cause
