"""Merge, diff and build on real snapshots; the laws of merge and diff."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from torana.core.errors import UserError
from torana.core.llb.definition import Definition
from torana.core.llb.ops import (
    BuildInput,
    BuildOp,
    DiffInput,
    DiffOp,
    MergeInput,
    MergeOp,
    PassthroughOp,
)
from torana.core.ops.build import BuildVertexOp, InvalidBuildOpError
from torana.core.ops.diff import DiffVertexOp, InvalidDiffOpError
from torana.core.ops.merge import InvalidMergeOpError, MergeVertexOp
from torana.core.ops.passthrough import InvalidPassthroughOpError, PassthroughVertexOp
from torana.core.snapshots.snapshotter import LayerOf


def write(*names: str) -> Callable[[Path], None]:
    """Make files with their name as content; directories end with a slash; `-name` removes."""

    def fill(folder: Path) -> None:
        for name in names:
            path = folder / name.removeprefix("-")
            if name.startswith("-"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("/"):
                path.mkdir()
            else:
                path.write_text(name)

    return fill


def state(ref: Any) -> dict[str, Any]:
    """Give all that a layer carries: modes, times, contents."""
    found: dict[str, Any] = {}
    with ref.mount() as root:
        for top, folders, files in os.walk(root):
            for name in [*folders, *files]:
                path = Path(top) / name
                status = path.lstat()
                content: str | None = None
                if stat.S_ISLNK(status.st_mode):
                    content = os.readlink(path)
                elif stat.S_ISREG(status.st_mode):
                    content = path.read_text()
                key = str(path.relative_to(root))
                found[key] = (oct(status.st_mode), status.st_mtime_ns, content)
    return found


async def merge(refs: Any, *inputs: Any) -> Any:
    op = MergeOp(tuple(MergeInput(i) for i in range(len(inputs))))
    vertex = MergeVertexOp(op, name="merge", input_count=len(inputs), refs=refs)
    (made,) = await vertex.exec(inputs)
    return made


async def diff(refs: Any, lower: Any, upper: Any) -> Any:
    inputs: Any = [side for side in (lower, upper) if side is not None]
    low = -1 if lower is None else 0
    up = -1 if upper is None else len(inputs) - 1
    vertex = DiffVertexOp(
        DiffOp(DiffInput(low), DiffInput(up)),
        name="diff",
        input_count=len(inputs),
        refs=refs,
    )
    (made,) = await vertex.exec(inputs)
    return made


async def test_directories_unite_and_later_files_win(refs: Any) -> None:
    a = await refs.tree(write("d/a", "d/both", "x/deep/er"))
    b = await refs.tree(write("d/b", "d/both", "x"))
    with b.mount() as folder:
        (folder / "d").chmod(0o711)
        (folder / "d/both").write_text("later")
        os.link(folder / "x", folder / "x2")
    made = await merge(refs, a, b)
    found = state(made)
    assert sorted(found) == ["d", "d/a", "d/b", "d/both", "x", "x2"]
    assert found["d/both"][2] == "later"
    assert found["d"] == state(b)["d"]
    with made.mount() as folder:
        assert (folder / "x").samefile(folder / "x2")
    assert refs.held == {a, b, made}


async def test_a_link_in_the_way_is_replaced_and_not_followed(refs: Any, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    a = await refs.tree(lambda folder: (folder / "d").symlink_to(outside))
    b = await refs.tree(write("d/f"))
    made = await merge(refs, a, b)
    assert sorted(state(made)) == ["d", "d/f"]
    assert os.listdir(outside) == []


async def test_merges_of_little(refs: Any) -> None:
    a = await refs.tree(write("a"))
    assert (await merge(refs, None, a)).id == a.id
    assert await merge(refs, None, None) is None
    with pytest.raises(InvalidMergeOpError, match="invalid merge input index 0"):
        await merge_with_bad_index(refs)


async def merge_with_bad_index(refs: Any) -> None:
    op = MergeOp((MergeInput(0),))
    vertex = MergeVertexOp(op, name="", input_count=0, refs=refs)
    await vertex.exec([])


async def test_merge_is_associative(refs: Any) -> None:
    a, b, c = [
        await refs.tree(write(*names)) for names in (("x/a", "y"), ("y/b", "x/b"), ("x", "z"))
    ]
    right = await merge(refs, a, await merge(refs, b, c))
    left = await merge(refs, await merge(refs, a, b), c)
    flat = await merge(refs, a, b, c)
    assert state(flat) == state(left) == state(right)


async def test_a_deletion_in_a_layer_deletes_in_earlier_inputs(refs: Any) -> None:
    other = await refs.tree(write("gone/x", "kept"))
    base = await refs.tree(write("gone/y", "base"))
    top = await refs.tree(write("-gone"), on=base)
    assert sorted(state(await merge(refs, other, top))) == ["base", "kept"]
    assert sorted(state(await merge(refs, top, other))) == ["base", "gone", "gone/x", "kept"]


UPPERS = [
    ("new",),
    ("-d/f",),
    ("-d",),
    ("-d", "d"),
    ("-top", "top/x"),
    ("-d/f", "d/g", "-top", "e/"),
]


@pytest.mark.parametrize("names", UPPERS)
@pytest.mark.parametrize("related", [True, False])
async def test_merging_a_diff_gives_the_upper(
    refs: Any, names: tuple[str, ...], related: bool
) -> None:
    lower = await refs.tree(write("d/f", "d/sub/h", "top"))
    upper = await refs.tree(write(*names), on=lower)
    if not related:
        with upper.mount() as folder:
            upper = await refs.tree(
                lambda made: (
                    shutil.copytree(folder, made, dirs_exist_ok=True, symlinks=True) and None
                )
            )
    changes = await diff(refs, lower, upper)
    merged = await merge(refs, lower, changes)
    assert state(merged) == state(upper)


async def test_a_diff_shows_additions_only(refs: Any) -> None:
    lower = await refs.tree(write("d/f", "gone", "same"))
    upper = await refs.tree(write("d/new", "-gone", "-d/f"), on=lower)
    assert sorted(state(await diff(refs, lower, upper))) == ["d", "d/new"]


async def test_a_diff_over_several_layers_takes_them_one_by_one(refs: Any) -> None:
    lower = await refs.tree(write("p", "q"))
    with lower.mount() as folder:
        before = (folder / "p").stat()
    middle = await refs.tree(write("-p"), on=lower)

    def again(folder: Path) -> None:
        (folder / "p").write_text("p")
        os.utime(folder / "p", ns=(before.st_atime_ns, before.st_mtime_ns))

    upper = await refs.tree(again, on=middle)
    assert sorted(state(await diff(refs, lower, upper))) == ["p"]


async def test_diffs_of_little(refs: Any) -> None:
    a = await refs.tree(write("a", "d/b"))
    assert (await diff(refs, None, a)).id == a.id
    assert await diff(refs, a, a) is None
    assert await diff(refs, None, None) is None
    nothing = await diff(refs, a, None)
    assert state(nothing) == {}
    assert state(await merge(refs, a, nothing)) == {}
    vertex = DiffVertexOp(
        DiffOp(DiffInput(0), DiffInput(3)),
        name="",
        input_count=1,
        refs=refs,
    )
    with pytest.raises(InvalidDiffOpError, match="invalid diff input index 3"):
        await vertex.exec([a])


async def test_layers_are_taken_not_made(refs: Any) -> None:
    a = await refs.tree(write("a"))
    b = await refs.tree(write("b"), on=await refs.tree(write("base")))
    c = await refs.tree(write("c"))
    merged = await merge(refs, a, await merge(refs, b, None, c))
    assert merged.layers == (*a.layers, *b.layers, *c.layers)
    assert (await diff(refs, a, merged)).layers == (*b.layers, *c.layers)
    assert (await diff(refs, await merge(refs, a, b), merged)).id != c.id
    assert (await diff(refs, await merge(refs, a, b), merged)).layers == c.layers
    assert (await diff(refs, merged, a)).layers == (LayerOf(a.id, merged.id),)
    on_top = await refs.tree(write("d"), on=merged)
    assert on_top.layers == (*merged.layers, LayerOf(on_top.id, merged.id))
    assert (await diff(refs, b, on_top)).layers == (LayerOf(on_top.id, b.id),)


async def test_a_merge_in_a_merge_keeps_its_deletions(refs: Any) -> None:
    x = await refs.tree(write("gone", "x"))
    lower = await refs.tree(write("gone", "kept"))
    upper = await refs.tree(write("-gone", "new"), on=lower)
    changes = await diff(refs, lower, upper)
    inner = await merge(refs, changes, await refs.tree(write("b")))
    assert sorted(state(await merge(refs, x, inner))) == ["b", "new", "x"]


async def test_no_handle_is_lost(refs: Any) -> None:
    lower = await refs.tree(write("d/f"))
    upper = await refs.tree(write("-d"), on=lower)
    made = await diff(refs, lower, upper)
    assert refs.held == {lower, upper, made}


async def test_passthrough(refs: Any) -> None:
    a, b = await refs.tree(write("a")), await refs.tree(write("b"))
    vertex = PassthroughVertexOp(PassthroughOp(id="x", outputs=(1, 0, 1)), input_count=2)
    made: Any = await vertex.exec([a, b])
    assert [ref.id for ref in made] == [b.id, a.id, b.id]
    assert len({id(ref) for ref in [*made, a, b]}) == 5
    bad = PassthroughVertexOp(PassthroughOp(id="x", outputs=(2,)), input_count=2)
    with pytest.raises(InvalidPassthroughOpError):
        await bad.exec([a, b])


DEFINITION = Definition(ops=(b"\x1a\x00", b"\x0a\x00"))


async def test_a_build_op_solves_what_lies_in_its_input(refs: Any) -> None:
    encoded = DEFINITION.encode()

    def fill(folder: Path) -> None:
        (folder / "x").mkdir()
        (folder / "x/def").write_bytes(encoded)
        (folder / "link").symlink_to("/x/../x/def")
        (folder / "out").symlink_to("/etc/hostname")

    tree = await refs.tree(fill)
    solved: list[Definition] = []

    async def solve(definition: Definition) -> Any:
        solved.append(definition)
        return "result"

    async def run(name: str | None, **changes: Any) -> Any:
        fields: dict[str, Any] = {
            "inputs": {"buildkit.llb.definition": BuildInput(0)},
            "attrs": {} if name is None else {"llbbuild.filename": name},
            **changes,
        }
        return await BuildVertexOp(BuildOp(**fields), input_count=1, solve=solve).exec([tree])

    assert await run("x/def") == ["result"]
    assert await run("/link") == ["result"]
    assert [d.ops for d in solved] == [DEFINITION.ops] * 2
    for name in ("out", "none", None, "x"):
        with pytest.raises(UserError, match=r"no such file|is a directory"):
            await run(name)
    with pytest.raises(InvalidBuildOpError, match=r"only LLB builder is currently allowed"):
        await run("x/def", builder=0)
    with pytest.raises(InvalidBuildOpError, match=r"no llb definition input"):
        await run("x/def", inputs={})
    assert len(solved) == 2
