"""`PassthroughVertexOp`: inputs handed on as outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torana.core.errors import UserError
from torana.core.llb.ops import PassthroughOp
from torana.core.oci.digest import Digest
from torana.core.ops.keyjson import key_json
from torana.core.solver.op import CacheMap, CacheMapInput, Result


class InvalidPassthroughOpError(UserError):
    """A passthrough names an input that is not there."""

    code = "PASSTHROUGH_INVALID"


def passthrough_key(op: PassthroughOp) -> Digest:
    """Compute the definition key."""
    members: dict[str, Any] = {"id": op.id, "outputs": list(op.outputs)}
    present = {name: value for name, value in members.items() if value}
    return Digest.of(key_json({"Type": "buildkit.passthrough.v0", "Passthrough": present}))


class PassthroughVertexOp:
    """Gives output number n the input that `outputs[n]` names."""

    def __init__(self, op: PassthroughOp, *, input_count: int) -> None:
        self._op = op
        self._input_count = input_count

    async def cache_map(self, index: int) -> tuple[CacheMap, bool]:
        return self.define(), True

    def define(self) -> CacheMap:
        inputs = (CacheMapInput(),) * self._input_count
        return CacheMap(digest=passthrough_key(self._op), inputs=inputs)

    async def exec(self, inputs: Sequence[Result]) -> Sequence[Result]:
        for index in self._op.outputs:
            if not 0 <= index < len(inputs):
                raise InvalidPassthroughOpError(f"invalid passthrough input index {index}")
        return [inputs[index].clone() for index in self._op.outputs]
