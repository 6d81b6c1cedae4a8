"""`failed_solve`: what a failed step left, whichever way its error came."""

from __future__ import annotations

from torana.core.solver.failure import FailedSolve


def failed_solve(error: BaseException) -> FailedSolve | None:
    """Give what can be mounted in a container to see why a step failed; None if nothing is kept."""
    part: BaseException | None = error
    while part is not None:
        failed = getattr(part, "failed", None)
        if isinstance(failed, FailedSolve):
            return failed
        for detail in getattr(part, "details", ()):
            if detail.DESCRIPTOR.full_name == "errdefs.Solve":
                return FailedSolve(
                    input_ids=tuple(detail.inputIDs),
                    mount_ids=tuple(detail.mountIDs),
                    op=detail.op.SerializeToString(),
                    description=dict(detail.description),
                )
        part = part.__cause__
    return None
