"""Load rules: what is refused, in which words, and that depth costs no recursion."""

from __future__ import annotations

import time
from typing import Any

import pytest

from torana.core.llb import ops as o
from torana.core.llb.codec import InvalidLLBError, encode
from torana.core.llb.definition import Definition
from torana.core.llb.validate import validate
from torana.core.oci.digest import Digest

SOURCE = encode(o.Op(kind=o.SourceOp(identifier="local://context")))
ROOT = o.Mount(dest="/")
META = o.Meta(args=("true",), cwd="/")


def above_source(kind: o.OpKind, index: int = 0, inputs: int = 1) -> Definition:
    """One op on the source, then the result."""
    op = encode(o.Op(inputs=(o.Input(Digest.of(SOURCE)),) * inputs, kind=kind))
    return Definition((SOURCE, op, terminal(op, index)))


def terminal(op: bytes, index: int = 0) -> bytes:
    return encode(o.Op(inputs=(o.Input(Digest.of(op), index),)))


def test_all_golden_definitions_are_valid(solves: Any) -> None:
    for solve in solves:
        graph = validate(Definition(tuple(row.data for row in solve.ops)))
        assert len(graph.ordered) == len(solve.ops) - 1


def test_inputs_come_before_their_users_whatever_the_order_given() -> None:
    good = above_source(o.ExecOp(meta=META, mounts=(ROOT,)))
    source, process, last = good.ops
    graph = validate(Definition((process, source, last)))
    assert list(graph.ordered) == [Digest.of(source), Digest.of(process)]
    assert graph.result == o.Input(Digest.of(process), 0)


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        (Definition(), "invalid empty definition"),
        (Definition((SOURCE,)), "invalid LLB with 1 vertexes"),
        (Definition((SOURCE, SOURCE)), "invalid LLB with 1 vertexes"),
        (Definition((b"\x0a", SOURCE)), "failed to parse llb proto op"),
        (Definition((SOURCE, b"")), "invalid LLB with no inputs on last vertex"),
        (Definition((SOURCE, terminal(b"x"))), "invalid missing input digest sha256:2d7116"),
        (Definition((SOURCE, terminal(SOURCE, -1))), "output index -1"),
        (Definition((SOURCE, terminal(SOURCE, 1))), "output index 1"),
        (
            Definition((SOURCE, encode(o.Op(inputs=(o.Input(Digest.of(SOURCE)),) * 2)))),
            "must have one input",
        ),
        (
            Definition(above_source(o.MergeOp((o.MergeInput(0),))).ops[:2]),
            "must have one input and no operation",
        ),
    ],
)
def test_graphs_that_are_refused(definition: Definition, message: str) -> None:
    with pytest.raises(InvalidLLBError, match=message):
        validate(definition)


def act(input: int = 0, secondary: int = -1, output: int = 0) -> o.FileAction:
    action = o.Copy(src="/a", dest="/b")
    return o.FileAction(input=input, secondary_input=secondary, output=output, action=action)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (o.ExecOp(mounts=(ROOT,)), "no meta"),
        (o.ExecOp(meta=o.Meta(cwd="/"), mounts=(ROOT,)), "no args"),
        (o.ExecOp(meta=o.Meta(args=("a",)), mounts=(ROOT,)), "no cwd"),
        (o.ExecOp(meta=META), "no mounts"),
        (o.ExecOp(meta=META, mounts=(o.Mount(dest="/a"),)), "no rootfs"),
        (o.ExecOp(meta=META, mounts=(ROOT, o.Mount())), "without dest"),
        (o.ExecOp(meta=META, mounts=(o.Mount(dest="/", input=1),)), "mount input index 1"),
        (o.ExecOp(meta=META, mounts=(o.Mount(dest="/", input=-2),)), "mount input index -2"),
        (o.ExecOp(meta=META, mounts=(o.Mount(dest="/", output=-2),)), "mount output -2"),
        (
            o.ExecOp(meta=META, mounts=(o.Mount(dest="/", mount_type=o.MountType.CACHE),)),
            "CACHE for /",
        ),
        (o.FileOp(), "no actions"),
        (o.FileOp((o.FileAction(secondary_input=-1),)), "action 0 has no kind"),
        (o.FileOp((act(input=1),)), "file action input index 1"),
        (o.FileOp((act(secondary=1),)), "secondary input index 1"),
        (o.FileOp((act(output=-1), act(input=2))), "file action input index 2"),
        (o.FileOp((act(output=-1),)), "no outputs"),
        (o.FileOp((act(output=-2),)), "file action output -2"),
        (o.MergeOp((o.MergeInput(-1),)), "merge input index -1"),
        (o.MergeOp((o.MergeInput(1),)), "merge input index 1"),
        (o.DiffOp(lower=o.DiffInput(0)), "lower and upper"),
        (o.DiffOp(lower=o.DiffInput(0), upper=o.DiffInput(1)), "diff input index 1"),
        (o.PassthroughOp(outputs=(0,)), "no id"),
        (o.PassthroughOp(id="p"), "no outputs"),
        (o.PassthroughOp(id="p", outputs=(-1,)), "passthrough output index -1"),
        (o.PassthroughOp(id="p", outputs=(1,)), "passthrough output index 1"),
        (o.BuildOp(inputs={"x": o.BuildInput(3)}), "build input index 3"),
    ],
)
def test_ops_that_are_refused(kind: o.OpKind, message: str) -> None:
    with pytest.raises(InvalidLLBError, match=message):
        validate(above_source(kind))


@pytest.mark.parametrize(
    ("kind", "index"),
    [
        (o.ExecOp(meta=META, mounts=(ROOT, o.Mount(input=-1, dest="/o", output=1))), 1),
        # Secrets and agents: input and output mean nothing.
        (
            o.ExecOp(
                meta=META,
                mounts=(ROOT, o.Mount(input=9, dest="/s", mount_type=o.MountType.SECRET)),
            ),
            0,
        ),
        (o.FileOp((act(output=-1), act(input=1))), 0),  # 1 is the result of action 0
        (o.FileOp((act(input=-1),)), 0),
        (o.MergeOp(), 0),
        (o.DiffOp(lower=o.DiffInput(-1), upper=o.DiffInput(0)), 0),
        (o.PassthroughOp(id="p", outputs=(0, 0)), 1),
    ],
)
def test_ops_that_are_taken(kind: o.OpKind, index: int) -> None:
    assert len(validate(above_source(kind, index)).ordered) == 2


def test_an_output_that_no_mount_makes_is_refused() -> None:
    process = o.ExecOp(meta=META, mounts=(ROOT, o.Mount(dest="/c", output=-1)))
    with pytest.raises(InvalidLLBError, match="output index 1"):
        validate(above_source(process, 1))


def test_what_the_result_does_not_need_is_not_looked_at() -> None:
    broken = encode(o.Op(kind=o.ExecOp()))
    assert list(validate(Definition((broken, SOURCE, terminal(SOURCE)))).ordered) == [
        Digest.of(SOURCE)
    ]


def _chain(length: int) -> Definition:
    ops = [SOURCE]
    for number in range(length):
        action = o.FileAction(secondary_input=-1, action=o.MkDir(path=f"/{number}", timestamp=-1))
        op = o.Op(inputs=(o.Input(Digest.of(ops[-1])),), kind=o.FileOp((action,)))
        ops.append(encode(op))
    return Definition((*reversed(ops), terminal(ops[-1])))


def test_long_chains_need_no_recursion_and_linear_time() -> None:
    short, long = _chain(2_500), _chain(20_000)

    def cost(definition: Definition) -> float:
        begin = time.process_time()
        validate(definition)
        return time.process_time() - begin

    small = min(cost(short) for _ in range(3))
    assert cost(long) < 8 * small * 5  # quadratic would be 64 times
