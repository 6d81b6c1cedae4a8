"""What goes wrong with a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torana.core.errors import NotFoundError, ToranaError, UserError
from torana.core.llb import ops as o
from torana.core.records import dataclass

if TYPE_CHECKING:
    from torana.core.cache.ref import Tree
    from torana.core.ops.exec.op import OnFailure


class InvalidExecOpError(UserError):
    """An exec op asks for something that makes no sense."""

    code = "EXEC_INVALID"


class SecretNotFoundError(NotFoundError):
    """A required secret is not there; the message names its id, never a value."""

    code = "SECRET_NOT_FOUND"


@dataclass(slots=True, eq=False)
class FailedMounts:
    """What a failed step leaves to be looked at: its inputs, and the state of its mounts in order.

    None is scratch, or a mount whose state nobody wanted. Whoever takes it releases the handles.
    """

    inputs: list[Tree | None]
    mounts: list[Tree | None]


class ExecError(ToranaError):
    """The process of a step ended with a code that means failure.

    `log` has the end of its output as written, both streams together. `left` is there where the
    state of failed steps is kept, until somebody takes it.
    """

    code = "EXEC_FAILED"

    def __init__(
        self, message: str, *, exit_code: int, log: bytes = b"", hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code
        self.log = log
        self.left: FailedMounts | None = None


def keep_failure(op: o.ExecOp) -> OnFailure:
    """Give what leaves the mounts of a failed step in its error."""

    async def keep(
        failure: ExecError, inputs: Sequence[Tree | None], outputs: Sequence[Tree | None]
    ) -> None:
        left = iter(outputs)
        failure.left = FailedMounts(
            [None if tree is None else tree.clone() for tree in inputs],
            [None if mount.output == o.SKIP_OUTPUT else next(left) for mount in op.mounts],
        )

    return keep
