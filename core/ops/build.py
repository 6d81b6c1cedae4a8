"""`BuildVertexOp`: solves a definition that lies in an input.

Spec: reference of the solver, section 6.4.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, cast

from torana.core.cache.ref import Tree
from torana.core.errors import UserError
from torana.core.llb.definition import Definition
from torana.core.llb.ops import DEFINITION_INPUT, LLB_BUILDER, BuildOp
from torana.core.oci.digest import Digest
from torana.core.ops.file.errors import naming
from torana.core.ops.file.root import Root, clean, open_regular
from torana.core.ops.keyjson import key_json
from torana.core.pool import run_blocking
from torana.core.solver.op import CacheMap, CacheMapInput, Result

FILENAME: Final = "llbbuild.filename"
MAX_SIZE: Final = 64 << 20

Solve = Callable[[Definition], Awaitable[Result | None]]
"""Solves a definition as a nested build of the vertex; the result is the caller's."""


class InvalidBuildOpError(UserError):
    """A build op cannot be run as it is."""

    code = "BUILD_OP_INVALID"


def build_key(op: BuildOp) -> Digest:
    """Compute the definition key."""
    members: dict[str, Any] = {
        "builder": op.builder,
        "inputs": {
            name: {"input": entry.input} if entry.input else {}
            for name, entry in sorted(op.inputs.items())
        },
        "def": None
        if op.definition is None
        else {"def": [base64.b64encode(raw).decode() for raw in _ops(op.definition)]},
        "attrs": dict(sorted(op.attrs.items())),
    }
    present = {name: value for name, value in members.items() if value}
    return Digest.of(key_json({"Type": "buildkit.build.v0", "Exec": present}))


def _ops(definition: bytes) -> tuple[bytes, ...]:
    return Definition.decode(definition).ops


class BuildVertexOp:
    """Reads a definition from an input and hands it to `solve`."""

    def __init__(self, op: BuildOp, *, input_count: int, solve: Solve) -> None:
        self._op = op
        self._input_count = input_count
        self._solve = solve

    async def cache_map(self, index: int) -> tuple[CacheMap, bool]:
        return self.define(), True

    def define(self) -> CacheMap:
        inputs = (CacheMapInput(),) * self._input_count
        return CacheMap(digest=build_key(self._op), inputs=inputs)

    async def exec(self, inputs: Sequence[Result]) -> Sequence[Result]:
        if self._op.builder != LLB_BUILDER:
            raise InvalidBuildOpError("only LLB builder is currently allowed")
        entry = self._op.inputs.get(DEFINITION_INPUT)
        if entry is None:
            raise InvalidBuildOpError(f"no llb definition input {DEFINITION_INPUT} found")
        if not 0 <= entry.input < len(inputs):
            raise InvalidBuildOpError(f"invalid index {entry.input}")
        tree = cast("Tree | None", inputs[entry.input])
        if tree is None:
            raise InvalidBuildOpError("the llb definition input is empty")
        name = self._op.attrs.get(FILENAME, DEFINITION_INPUT)
        await tree.ready()
        data = await run_blocking(_read, tree, name)
        return [cast("Result", await self._solve(Definition.decode(data)))]


def _read(tree: Tree, name: str) -> bytes:
    path = clean(name)
    with tree.mount() as folder, Root(folder) as root, root.find(path) as place:
        shown = os.fsdecode(path)
        if not place.tail:
            raise InvalidBuildOpError(f"the llb definition is a directory: `{shown}`")
        with naming("failed to open", path):
            file, status = open_regular(place.folder, b"/".join(place.tail))
        with os.fdopen(file, "rb") as reader:
            if status.st_size > MAX_SIZE:
                raise InvalidBuildOpError(f"the llb definition is too large: `{shown}`")
            return reader.read()
