"""`DiffVertexOp`: what one tree changes in another.

Spec: reference of the solver, sections 6.4 and 6.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torana.core.cache.ref import ImmutableRef, RefStore
from torana.core.errors import UserError
from torana.core.llb.ops import DiffOp
from torana.core.oci.digest import Digest
from torana.core.ops.keyjson import key_json
from torana.core.ops.stacked import SCRATCH, StackedVertexOp
from torana.core.snapshots.snapshotter import LayerOf


class InvalidDiffOpError(UserError):
    """A diff names an input that is not there."""

    code = "DIFF_INVALID"


def diff_key(op: DiffOp) -> Digest:
    """Compute the definition key."""
    sides: dict[str, Any] = {}
    for name, side in (("lower", op.lower), ("upper", op.upper)):
        if side is not None:
            sides[name] = {"input": side.input} if side.input else {}
    return Digest.of(key_json({"Type": "buildkit.diff.v0", "Diff": sides}))


class DiffVertexOp(StackedVertexOp):
    """Diffs: layers above a common chain are taken as they are, else the trees are compared."""

    def __init__(self, op: DiffOp, *, name: str, input_count: int, refs: RefStore) -> None:
        super().__init__(name=name, input_count=input_count, refs=refs)
        self._op = op

    def key(self) -> Digest:
        return diff_key(self._op)

    def indexes(self) -> Sequence[int]:
        found = []
        for side in (self._op.lower, self._op.upper):
            index = SCRATCH if side is None else side.input
            if not SCRATCH <= index < self._input_count:
                raise InvalidDiffOpError(f"invalid diff input index {index}")
            found.append(index)
        return found

    def layers(self, parts: Sequence[ImmutableRef | None]) -> Sequence[LayerOf]:
        lower, upper = parts
        return layers_between(lower, upper, description=self.name)


def layers_between(
    lower: ImmutableRef | None, upper: ImmutableRef | None, *, description: str
) -> Sequence[LayerOf]:
    """Give the layers that lead from `lower` to `upper`; `description` is for one that is new."""
    below = () if lower is None else lower.layers
    above = () if upper is None else upper.layers
    if above[: len(below)] == below:
        return above[len(below) :]
    assert lower is not None
    name = None if upper is None else upper.id
    return [LayerOf(name, lower.id, description)]
