"""`MergeVertexOp`: the layers of several trees, one on top of the other.

Spec: reference of the solver, sections 6.4 and 6.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torana.core.cache.ref import ImmutableRef, RefStore, Tree
from torana.core.errors import UserError
from torana.core.llb.ops import MergeOp
from torana.core.oci.digest import Digest
from torana.core.ops.keyjson import key_json
from torana.core.ops.layers import apply_layers, chain
from torana.core.snapshots.snapshotter import Snapshotter
from torana.core.solver.op import CacheMap, CacheMapInput, Result


class InvalidMergeOpError(UserError):
    """A merge names an input that is not there."""

    code = "MERGE_INVALID"


def merge_key(op: MergeOp) -> Digest:
    """Compute the definition key."""
    inputs = [{"input": entry.input} if entry.input else {} for entry in op.inputs]
    merge = {"inputs": inputs} if inputs else {}
    return Digest.of(key_json({"Type": "buildkit.merge.v0", "Merge": merge}))


class MergeVertexOp:
    """Merges by applying every layer of the later inputs to the first one."""

    def __init__(
        self,
        op: MergeOp,
        *,
        name: str,
        input_count: int,
        refs: RefStore,
        snapshots: Snapshotter,
    ) -> None:
        self._op = op
        self._name = name
        self._input_count = input_count
        self._refs = refs
        self._snapshots = snapshots

    async def cache_map(self, index: int) -> tuple[CacheMap, bool]:
        inputs = (CacheMapInput(),) * self._input_count
        return CacheMap(digest=merge_key(self._op), inputs=inputs), True

    async def exec(self, inputs: Sequence[Result]) -> Sequence[Result]:
        """Merge; scratch inputs do not count, and a single one that is left is the result."""
        parts: list[ImmutableRef] = []
        try:
            for entry in self._op.inputs:
                if not 0 <= entry.input < len(inputs):
                    raise InvalidMergeOpError(f"invalid merge input index {entry.input}")
                tree = cast("Tree | None", inputs[entry.input])
                if tree is not None:
                    parts.append(await tree.snapshot())
            if len(parts) == 1:
                return [parts[0].clone()]
            layers = [layer for part in parts[1:] for layer in chain(part)]
            made = await apply_layers(
                layers,
                parts[0] if parts else None,
                refs=self._refs,
                snapshots=self._snapshots,
                description=self._name,
            )
            return [made]
        finally:
            for part in parts:
                await part.release()
