from __future__ import annotations

from typing import Any, cast

import pytest

from torana.core.cache.ref import Selector
from torana.core.llb.ops import ExecOp, Meta, Mount
from torana.core.oci.digest import Digest
from torana.core.oci.platform import Platform
from torana.core.ops.exec.errors import InvalidExecOpError
from torana.core.ops.exec.op import ExecVertexOp, go_quoted


class Tree:
    def __init__(self) -> None:
        self.asked: list[tuple[Selector, ...]] = []

    async def content_digest(self, selectors: tuple[Selector, ...]) -> Digest:
        self.asked.append(selectors)
        return Digest.of(b"content")


def make(op: ExecOp, count: int, **options: Any) -> ExecVertexOp:
    return ExecVertexOp(
        op,
        platform=Platform(os="linux", architecture="amd64"),
        input_count=count,
        services=cast("Any", None),
        step_log=cast("Any", None),
        **options,
    )


async def test_cache_map() -> None:
    async def make_local(_: object) -> None: ...

    mounts = (
        Mount(input=0, dest="/", output=0),
        Mount(input=1, dest="/m", output=-1, selector="a"),
    )
    op = make(ExecOp(meta=Meta(args=("x",), cwd="/"), mounts=mounts), 2, make_local=make_local)
    found, is_last = await op.cache_map(0)
    assert is_last
    root, second = found.inputs
    assert root.preprocess is second.preprocess is make_local
    assert root.content_digest is None
    assert second.content_digest is not None
    tree = Tree()
    assert await second.content_digest(cast("Any", tree)) == Digest.of(b"content")
    assert tree.asked == [(Selector(path="/a", follow_links=True),)]
    assert await second.content_digest(cast("Any", None)) is None  # scratch


async def test_arguments() -> None:
    mounts = (Mount(input=-1, dest="/"),)
    with pytest.raises(InvalidExecOpError, match="nothing to run"):
        await make(ExecOp(meta=Meta(cwd="/"), mounts=mounts), 0).exec([])


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ('a "b" \\', '"a \\"b\\" \\\\"'),
        ("\n\t\x00\x7f\x1b", '"\\n\\t\\x00\\x7f\\x1b"'),
        ("é \u2028 \U0001f600 \U000e0001", '"é \\u2028 \U0001f600 \\U000e0001"'),
    ],
)
def test_quoting(text: str, quoted: str) -> None:
    assert go_quoted(text) == quoted
