"""`StackedVertexOp`: the frame of merge and diff, whose results are layers of their inputs.

Nothing is computed here: a result is a list of layers, to be looked at by who mounts or exports it.

Spec: reference of the solver, section 6.6.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, cast

from torana.core.cache.ref import ImmutableRef, RefStore, Tree
from torana.core.oci.digest import Digest
from torana.core.snapshots.snapshotter import LayerOf
from torana.core.solver.op import CacheMap, CacheMapInput, Result

SCRATCH: Final = -1  # in place of the index of an input


class StackedVertexOp(ABC):
    """Takes layers of inputs; subclasses say which."""

    def __init__(self, *, name: str, input_count: int, refs: RefStore) -> None:
        self.name = name
        self._input_count = input_count
        self._refs = refs

    @abstractmethod
    def key(self) -> Digest:
        """Compute the definition key."""

    @abstractmethod
    def indexes(self) -> Sequence[int]:
        """Give the indexes of the wanted inputs.

        Raises:
            UserError: there is no such input.
        """

    @abstractmethod
    def layers(self, parts: Sequence[ImmutableRef | None]) -> Sequence[LayerOf]:
        """Give the layers of the result, base first; `parts` in the order of `indexes`."""

    async def cache_map(self, index: int) -> tuple[CacheMap, bool]:
        return self.define(), True

    def define(self) -> CacheMap:
        inputs = (CacheMapInput(),) * self._input_count
        return CacheMap(digest=self.key(), inputs=inputs)

    async def exec(self, inputs: Sequence[Result]) -> Sequence[Result]:
        """Give scratch for no layers, an input where the layers are just its own, else a stack."""
        parts: list[ImmutableRef | None] = []
        try:
            for index in self.indexes():
                tree = None if index == SCRATCH else cast("Tree | None", inputs[index])
                parts.append(None if tree is None else await tree.snapshot())
            layers = tuple(self.layers(parts))
            if not layers:
                return [cast("Result", None)]
            for part in parts:
                if part is not None and part.layers == layers:
                    return [part.clone()]
            return [await self._refs.stack(layers, description=self.name)]
        finally:
            for part in parts:
                if part is not None:
                    await part.release()
