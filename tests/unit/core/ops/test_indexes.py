"""Indexes that lead nowhere are refused in words. Number 75 of the solver reference, section 15."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from torana.core.errors import UserError
from torana.core.llb import ops as o
from torana.core.llb.codec import InvalidLLBError, encode
from torana.core.llb.definition import Definition
from torana.core.llb.validate import validate
from torana.core.oci.digest import Digest
from torana.core.oci.platform import Platform
from torana.core.ops.build import BuildVertexOp
from torana.core.ops.diff import DiffVertexOp
from torana.core.ops.exec.op import ExecVertexOp
from torana.core.ops.file.op import FileVertexOp
from torana.core.ops.merge import MergeVertexOp
from torana.core.ops.passthrough import PassthroughVertexOp
from torana.core.solver.op import Op

BAD = [-2, -(2**31), 7, 2**31 - 1]
UNUSED: Any = None  # nothing of it is reached


def run(mount: o.Mount) -> o.ExecOp:
    return o.ExecOp(meta=o.Meta(args=("true",), cwd="/"), mounts=(o.Mount(dest="/"), mount))


def file(action: o.FileAction) -> o.FileOp:
    return o.FileOp(actions=(action,))


def owned_by(index: int) -> o.ChownOpt:
    return o.ChownOpt(user=o.UserOpt(by_name=o.NamedUser(name="me", input=index)))


def copy(index: int) -> o.FileAction:
    return o.FileAction(
        input=0, secondary_input=index, output=0, action=o.Copy(src="/a", dest="/b")
    )


KINDS: dict[str, Callable[[int], o.OpKind]] = {
    "exec mount": lambda index: run(o.Mount(input=index, dest="/x")),
    "exec cache mount": lambda index: run(
        o.Mount(input=index, dest="/x", mount_type=o.MountType.CACHE, cache_opt=o.CacheOpt(id="c"))
    ),
    "file input": lambda index: file(
        o.FileAction(input=index, output=0, action=o.MkDir(path="/d"))
    ),
    "file source": lambda index: file(copy(index)),
    "file owner": lambda index: file(
        o.FileAction(input=0, output=0, action=o.MkDir(path="/d", owner=owned_by(index)))
    ),
    "diff lower": lambda index: o.DiffOp(lower=o.DiffInput(index), upper=o.DiffInput(0)),
    "diff upper": lambda index: o.DiffOp(lower=o.DiffInput(0), upper=o.DiffInput(index)),
    "merge": lambda index: o.MergeOp(inputs=(o.MergeInput(0), o.MergeInput(index))),
    "passthrough": lambda index: o.PassthroughOp(id="p", outputs=(index,)),
    "build": lambda index: o.BuildOp(
        builder=o.LLB_BUILDER, inputs={o.DEFINITION_INPUT: o.BuildInput(index)}
    ),
}


def vertex_op(kind: o.OpKind) -> Op:
    match kind:
        case o.ExecOp():
            return ExecVertexOp(
                kind,
                platform=Platform(os="linux", architecture="amd64"),
                input_count=2,
                services=UNUSED,
                step_log=UNUSED,
            )
        case o.FileOp():
            return FileVertexOp(kind, name="f", input_count=2, refs=UNUSED)
        case o.MergeOp():
            return MergeVertexOp(kind, name="m", input_count=2, refs=UNUSED)
        case o.DiffOp():
            return DiffVertexOp(kind, name="d", input_count=2, refs=UNUSED)
        case o.PassthroughOp():
            return PassthroughVertexOp(kind, input_count=2)
        case o.BuildOp():
            return BuildVertexOp(kind, input_count=2, solve=UNUSED)
    raise AssertionError(kind)


@pytest.mark.parametrize("index", BAD)
@pytest.mark.parametrize("name", KINDS)
async def test_scenario_75_the_op_refuses(name: str, index: int) -> None:
    op = vertex_op(KINDS[name](index))
    with pytest.raises(UserError, match=r"in(valid|put)"):
        await op.cache_map(0)
        await op.exec([UNUSED, UNUSED])


@pytest.mark.parametrize("index", BAD)
@pytest.mark.parametrize("name", [name for name in KINDS if name != "file owner"])
def test_scenario_75_loading_refuses(name: str, index: int) -> None:
    source = encode(o.Op(kind=o.SourceOp(identifier="local://a")))
    other = encode(o.Op(kind=o.SourceOp(identifier="local://b")))
    inputs = (o.Input(Digest.of(source)), o.Input(Digest.of(other)))
    op = encode(o.Op(inputs=inputs, kind=KINDS[name](index)))
    last = encode(o.Op(inputs=(o.Input(Digest.of(op)),)))
    with pytest.raises(InvalidLLBError, match="index"):
        validate(Definition((source, other, op, last)))
