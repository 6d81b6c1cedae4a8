"""Checks of a definition before anything is done with it: indexes, counts, cycles, required parts.

Spec: loading rules of the solver reference, section 2; exec rules of the wire reference.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Final, assert_never

from torana.core.llb import ops as o
from torana.core.llb.codec import InvalidLLBError, decode
from torana.core.llb.definition import Definition
from torana.core.oci.digest import Digest
from torana.core.records import dataclass

MAX_OPS: Final = 500_000
MAX_INPUTS: Final = 65_536  # of one op
_NO_TREE: Final = (o.MountType.SECRET, o.MountType.SSH)  # their input and output mean nothing


@dataclass(frozen=True, slots=True)
class Graph:
    """A checked definition: ops by digest, inputs before users, terminal op left out."""

    ordered: Mapping[Digest, o.Op]
    result: o.Input


def validate(definition: Definition) -> Graph:
    """Read and check all that the result needs.

    Raises:
        InvalidLLBError: with what is wrong and where.
    """
    if not definition.ops:
        raise InvalidLLBError("invalid empty definition")
    if len(definition.ops) > MAX_OPS:
        raise InvalidLLBError(f"invalid LLB with {len(definition.ops)} vertexes: too many")
    digests = definition.digests()
    decoded = {digest: _decode(data) for digest, data in zip(digests, definition.ops, strict=True)}
    if len(decoded) < 2:
        raise InvalidLLBError(f"invalid LLB with {len(decoded)} vertexes")
    terminal = decoded[digests[-1]]
    if not terminal.inputs:
        raise InvalidLLBError("invalid LLB with no inputs on last vertex")
    if terminal.kind is not None or len(terminal.inputs) > 1:
        raise InvalidLLBError("invalid LLB: the last vertex must have one input and no operation")
    result = terminal.inputs[0]
    ordered = _ordered(decoded, result)
    _check_outputs(ordered, result)
    return Graph(ordered, result)


def _decode(data: bytes) -> o.Op:
    try:
        return decode(o.Op, data)
    except InvalidLLBError as err:
        raise InvalidLLBError(f"failed to parse llb proto op: {err.message}") from err


def _ordered(decoded: Mapping[Digest, o.Op], result: o.Input) -> dict[Digest, o.Op]:
    """Give what `result` needs, inputs first; checks each op on the way."""
    ordered: dict[Digest, o.Op] = {}
    open_: set[Digest] = set()
    _check_input(result, decoded)
    stack = [(result.digest, 0)]
    while stack:
        digest, position = stack.pop()
        if digest in ordered:
            continue
        op = decoded[digest]
        if position == 0:
            open_.add(digest)
            _check_op(op)
        if position == len(op.inputs):
            open_.discard(digest)
            ordered[digest] = op
            continue
        stack.append((digest, position + 1))
        item = op.inputs[position]
        _check_input(item, decoded)
        if item.digest in open_:
            raise InvalidLLBError(f"invalid LLB: op {item.digest} depends on itself")
        stack.append((item.digest, 0))
    return ordered


def _check_input(item: o.Input, decoded: Mapping[Digest, o.Op]) -> None:
    if item.digest not in decoded:
        raise InvalidLLBError(f"invalid missing input digest {item.digest}")
    if item.index < 0:
        raise InvalidLLBError(f"invalid input {item.digest} output index {item.index}")


def _check_outputs(ordered: Mapping[Digest, o.Op], result: o.Input) -> None:
    """Check that each output that is used is made."""
    made = {digest: _outputs(op) for digest, op in ordered.items()}
    for op in ordered.values():
        for item in op.inputs:
            if item.index not in made[item.digest]:
                raise InvalidLLBError(f"invalid input {item.digest} output index {item.index}")
    if result.index not in made[result.digest]:
        raise InvalidLLBError(f"invalid input {result.digest} output index {result.index}")


def _outputs(op: o.Op) -> Container[int]:
    match op.kind:
        case o.ExecOp():
            return {mount.output for mount in op.kind.mounts if mount.mount_type not in _NO_TREE}
        case o.FileOp():
            return {action.output for action in op.kind.actions}
        case o.PassthroughOp():
            return range(len(op.kind.outputs))
    return (0,)


def _check_op(op: o.Op) -> None:
    count = len(op.inputs)
    if count > MAX_INPUTS:
        raise InvalidLLBError(f"invalid op with {count} inputs: too many")
    match op.kind:
        case None:
            raise InvalidLLBError("invalid op without a kind")
        case o.ExecOp():
            _check_exec(op.kind, count)
        case o.FileOp():
            _check_file(op.kind, count)
        case o.MergeOp():
            for item in op.kind.inputs:
                _check_index("merge input", item.input, count, can_be_empty=False)
        case o.DiffOp():
            if op.kind.lower is None or op.kind.upper is None:
                raise InvalidLLBError("invalid diff op: lower and upper must both be there")
            for side in (op.kind.lower, op.kind.upper):
                _check_index("diff input", side.input, count)
        case o.PassthroughOp():
            _check_passthrough(op.kind, count)
        case o.BuildOp():
            for build_input in op.kind.inputs.values():
                _check_index("build input", build_input.input, count, can_be_empty=False)
        case o.SourceOp():
            pass
        case _:
            assert_never(op.kind)


def _check_index(what: str, index: int, count: int, *, can_be_empty: bool = True) -> None:
    if not (-1 if can_be_empty else 0) <= index < count:
        raise InvalidLLBError(f"invalid {what} index {index}, {count} provided")


def _check_exec(op: o.ExecOp, count: int) -> None:
    if op.meta is None:
        raise InvalidLLBError("invalid exec op with no meta")
    if not op.meta.args:
        raise InvalidLLBError("invalid exec op with no args")
    if not op.meta.cwd:
        raise InvalidLLBError("invalid exec op with no cwd")
    if not op.mounts:
        raise InvalidLLBError("invalid exec op with no mounts")
    root = None
    for mount in op.mounts:
        if not mount.dest:
            raise InvalidLLBError("invalid exec op with a mount without dest")
        if mount.output < o.SKIP_OUTPUT:
            raise InvalidLLBError(f"invalid mount output {mount.output}")
        if mount.mount_type not in (*_NO_TREE, o.MountType.TMPFS):
            _check_index("mount input", mount.input, count)
        if mount.dest == "/":
            root = mount
    if root is None:
        raise InvalidLLBError("invalid exec op with no rootfs")
    if root.mount_type != o.MountType.BIND:
        raise InvalidLLBError(f"invalid mount type {root.mount_type.name} for /")


def _check_file(op: o.FileOp, count: int) -> None:
    if not op.actions:
        raise InvalidLLBError("invalid file op with no actions")
    for position, action in enumerate(op.actions):
        if action.action is None:
            raise InvalidLLBError(f"invalid file op: action {position} has no kind")
        # Results of earlier actions follow the inputs.
        _check_index("file action input", action.input, count + position)
        _check_index("file action secondary input", action.secondary_input, count + position)
        if action.output < o.SKIP_OUTPUT:
            raise InvalidLLBError(f"invalid file action output {action.output}")
    if all(action.output == o.SKIP_OUTPUT for action in op.actions):
        raise InvalidLLBError("invalid file op with no outputs")


def _check_passthrough(op: o.PassthroughOp, count: int) -> None:
    if not op.id:
        raise InvalidLLBError("invalid passthrough op with no id")
    if not op.outputs:
        raise InvalidLLBError("invalid passthrough op with no outputs")
    for index in op.outputs:
        _check_index("passthrough output", index, count, can_be_empty=False)
