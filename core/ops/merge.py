"""`MergeVertexOp`: the layers of several trees, one on top of the other.

Spec: reference of the solver, sections 6.4 and 6.6.
"""

from __future__ import annotations

from collections.abc import Sequence

from torana.core.cache.ref import ImmutableRef, RefStore
from torana.core.errors import UserError
from torana.core.llb.ops import MergeOp
from torana.core.oci.digest import Digest
from torana.core.ops.keyjson import key_json
from torana.core.ops.stacked import StackedVertexOp
from torana.core.snapshots.snapshotter import LayerOf


class InvalidMergeOpError(UserError):
    """A merge names an input that is not there."""

    code = "MERGE_INVALID"


def merge_key(op: MergeOp) -> Digest:
    """Compute the definition key."""
    inputs = [{"input": entry.input} if entry.input else {} for entry in op.inputs]
    merge = {"inputs": inputs} if inputs else {}
    return Digest.of(key_json({"Type": "buildkit.merge.v0", "Merge": merge}))


class MergeVertexOp(StackedVertexOp):
    """Merges: the layers of all inputs in order, so that merges of merges are flat."""

    def __init__(self, op: MergeOp, *, name: str, input_count: int, refs: RefStore) -> None:
        super().__init__(name=name, input_count=input_count, refs=refs)
        self._op = op

    def key(self) -> Digest:
        return merge_key(self._op)

    def indexes(self) -> Sequence[int]:
        for entry in self._op.inputs:
            if not 0 <= entry.input < self._input_count:
                raise InvalidMergeOpError(f"invalid merge input index {entry.input}")
        return [entry.input for entry in self._op.inputs]

    def layers(self, parts: Sequence[ImmutableRef | None]) -> Sequence[LayerOf]:
        return [layer for part in parts if part is not None for layer in part.layers]
