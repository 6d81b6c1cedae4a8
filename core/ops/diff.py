"""`DiffVertexOp`: what one tree changes in another.

Deletions cannot be seen in a tree, yet a merge has to find them. Where there are any, the result
has two layers: marks at the paths that are deleted, and on top of them the diff, which deletes
them. That needs nothing of the store, and survives being cached.

Spec: reference of the solver, sections 6.4 and 6.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torana.core.cache.ref import ImmutableRef, RefStore, Tree
from torana.core.errors import UserError
from torana.core.llb.ops import DiffOp
from torana.core.oci.digest import Digest
from torana.core.ops.keyjson import key_json
from torana.core.ops.layers import LayerOf, apply_layers, chain, deletions, place_marks
from torana.core.pool import run_blocking
from torana.core.snapshots.snapshotter import Snapshotter
from torana.core.solver.op import CacheMap, CacheMapInput, Result


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


class DiffVertexOp:
    """Diffs by comparing snapshots; layers of a common chain are taken as they are."""

    def __init__(
        self,
        op: DiffOp,
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
        return CacheMap(digest=diff_key(self._op), inputs=inputs), True

    async def exec(self, inputs: Sequence[Result]) -> Sequence[Result]:
        lower = await self._side(inputs, -1 if self._op.lower is None else self._op.lower.input)
        try:
            upper = await self._side(inputs, -1 if self._op.upper is None else self._op.upper.input)
        except BaseException:
            if lower is not None:
                await lower.release()
            raise
        try:
            if lower is None and upper is not None:
                return [upper.clone()]
            return [await self._make(layers_between(lower, upper))]
        finally:
            for side in (lower, upper):
                if side is not None:
                    await side.release()

    @staticmethod
    async def _side(inputs: Sequence[Result], index: int) -> ImmutableRef | None:
        if index == -1:
            return None
        if not 0 <= index < len(inputs):
            raise InvalidDiffOpError(f"invalid diff input index {index}")
        tree = cast("Tree | None", inputs[index])
        return None if tree is None else await tree.snapshot()

    async def _make(self, layers: Sequence[LayerOf]) -> ImmutableRef:
        gone = await run_blocking(deletions, self._snapshots, layers)
        base: ImmutableRef | None = None
        if gone:
            marks = await self._refs.new_mutable(None, description=self._name)
            try:

                def work() -> None:
                    with marks.mount() as target:
                        place_marks(self._snapshots, gone, target)

                await run_blocking(work)
                base = await marks.commit()
            except BaseException:
                await marks.release()
                raise
        try:
            return await apply_layers(
                layers,
                base,
                refs=self._refs,
                snapshots=self._snapshots,
                description=self._name,
            )
        finally:
            if base is not None:
                await base.release()


def layers_between(lower: ImmutableRef | None, upper: ImmutableRef | None) -> list[LayerOf]:
    """Give the layers that lead from `lower` to `upper`: its own where they have a common chain."""
    below = None if lower is None else lower.snapshot_name
    if upper is None:
        return [] if below is None else [LayerOf(None, below)]
    if upper.snapshot_name == below:
        return []
    layers = chain(upper)
    for i, layer in enumerate(layers):
        if below is not None and layer.upper == below:
            return layers[i + 1 :]
    return [LayerOf(upper.snapshot_name, below)]
