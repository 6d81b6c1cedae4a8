"""`FileVertexOp` on real snapshots: chains, forks, outputs, errors; and no handle is lost."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from torana.core.llb.ops import (
    ChownOpt,
    Copy,
    FileAction,
    FileActionKind,
    FileOp,
    MkDir,
    MkFile,
    NamedUser,
    Rm,
    Symlink,
    UserOpt,
)
from torana.core.ops.file.errors import FileActionError
from torana.core.ops.file.op import FileVertexOp
from torana.core.ops.file.plan import InvalidFileOpError


def act(kind: FileActionKind, input: int = 0, secondary: int = -1, output: int = -1) -> FileAction:
    return FileAction(input=input, secondary_input=secondary, output=output, action=kind)


def mkfile(path: str, data: bytes = b"x", owner: ChownOpt | None = None) -> MkFile:
    return MkFile(path=path, mode=0o644, data=data, timestamp=-1, owner=owner)


def mkdir(path: str) -> MkDir:
    return MkDir(path=path, mode=0o755, timestamp=-1)


def copy(src: str, dest: str) -> Copy:
    return Copy(src=src, dest=dest, mode=-1, timestamp=-1, create_dest_path=True)


async def run(refs: Any, *actions: FileAction, inputs: Any = ()) -> list[Any]:
    op = FileVertexOp(FileOp(actions), name="the name", input_count=len(inputs), refs=refs)
    return list(await op.exec(inputs))


def listing(ref: Any) -> list[str]:
    with ref.mount() as folder:
        return sorted(
            str((Path(top) / name).relative_to(folder))
            for top, folders, files in os.walk(folder)
            for name in [*folders, *files]
        )


async def test_from_scratch(refs: Any) -> None:
    (made,) = await run(refs, act(mkfile("/f"), -1, output=0))
    assert listing(made) == ["f"]
    assert made.description == "the name"
    assert made.parent is None
    with made.mount() as folder:
        assert folder.stat().st_mode & 0o7777 == 0o755
    assert refs.held == {made}


async def test_a_chain_is_one_snapshot_on_top_of_its_input(refs: Any) -> None:
    base = await refs.tree(lambda folder: (folder / "base").touch())
    (made,) = await run(
        refs,
        act(mkdir("/d")),
        act(mkfile("/d/f"), 1),
        act(Symlink(oldpath="f", newpath="/d/l", timestamp=-1), 2),
        act(Rm(path="/base"), 3, output=0),
        inputs=[base],
    )
    assert listing(made) == ["d", "d/f", "d/l"]
    assert made.parent.id == base.id
    assert listing(base) == ["base"]
    assert refs.held == {base, made}


async def test_a_fork_gives_each_user_its_own_copy(refs: Any) -> None:
    one, two, three = await run(
        refs,
        act(mkfile("/a"), -1, output=0),
        act(mkfile("/b"), 0, output=1),
        act(mkfile("/c"), 0, output=2),
    )
    assert [listing(ref) for ref in (one, two, three)] == [["a"], ["a", "b"], ["a", "c"]]
    assert refs.held == {one, two, three}


async def test_copies_from_inputs_own_results_and_nothing(refs: Any) -> None:
    source = await refs.tree(lambda folder: (folder / "s").touch())
    (made,) = await run(
        refs,
        act(mkfile("/own"), -1),
        act(copy("/own", "/a/"), -1, 1),
        act(copy("/s", "/a/"), 2, 0),
        act(copy("/", "/empty"), 3, -1, output=0),
        inputs=[source],
    )
    assert listing(made) == ["a", "a/own", "a/s", "empty"]
    assert refs.held == {source, made}


async def test_the_same_tree_as_source_and_target(refs: Any) -> None:
    base = await refs.tree(lambda folder: (folder / "s").touch())
    (made,) = await run(refs, act(copy("/s", "/t"), 0, 0, output=0), inputs=[base])
    assert listing(made) == ["s", "t"]


async def test_scratch_inputs(refs: Any) -> None:
    (made,) = await run(refs, act(copy("/", "/x"), 0, 1, output=0), inputs=[None, None])
    assert listing(made) == ["x"]


async def test_names_are_looked_up_in_trees(refs: Any) -> None:
    uid, gid = os.geteuid(), os.getegid()

    def fill(folder: Path) -> None:
        (folder / "etc").mkdir()
        (folder / "etc/passwd").write_text(f"me:x:{uid}:{gid}::/:\n")

    users = await refs.tree(fill)
    owner = ChownOpt(user=UserOpt(by_name=NamedUser("me", 0)))
    (made,) = await run(refs, act(mkfile("/f", owner=owner), -1, output=0), inputs=[users])
    with made.mount() as folder:
        assert (folder / "f").stat().st_uid == uid
    with pytest.raises(FileActionError, match="invalid missing user mount"):
        await run(refs, act(mkfile("/f", owner=owner), -1, output=0), inputs=[None])


async def test_a_failure_names_the_action_and_keeps_nothing(refs: Any) -> None:
    with pytest.raises(FileActionError) as caught:
        await run(
            refs,
            act(mkfile("/fine"), -1, output=0),
            act(mkdir("/d"), -1),
            act(mkfile("/no/f"), 1, output=1),
        )
    assert caught.value.action_index == 2
    assert caught.value.message == "open /no/f: no such file or directory"
    assert refs.held == set()
    with pytest.raises(InvalidFileOpError):
        await run(refs, act(mkfile("/f"), 5, output=0))


async def test_other_user_errors_become_errors_of_the_action(refs: Any) -> None:
    source = await refs.tree(lambda folder: (folder / "s").touch())
    broken = Copy(src="/", dest="/o", mode=-1, timestamp=-1, mode_str="?")
    with pytest.raises(FileActionError, match="invalid syntax") as caught:
        await run(refs, act(mkdir("/o"), -1), act(broken, 1, 0, 0), inputs=[source])
    assert caught.value.action_index == 1


async def test_cancelling_releases_all(refs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    started = asyncio.Event()

    async def stuck(*_: Any, **__: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    monkeypatch.setattr("torana.core.ops.file.op.run_blocking", stuck)
    task = asyncio.create_task(run(refs, act(mkfile("/f"), -1, output=0)))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert refs.held == set()


@pytest.mark.needs("root")
async def test_a_folder_of_the_client_is_verified_after_the_copy(refs: Any) -> None:
    source = await refs.tree(lambda folder: (folder / "s").touch())
    calls: list[str] = []
    source.verify_unchanged = lambda: calls.append("verified")
    (made,) = await run(refs, act(copy("/s", "/t"), -1, 0, output=0), inputs=[source])
    assert calls == ["verified"]
    with made.mount() as folder:
        assert (folder / "t").exists()


async def test_the_cache_map(refs: Any) -> None:
    source = await refs.tree(lambda folder: (folder / "s").touch())
    action = act(copy("/s", "/t"), 0, 1, output=0)
    op = FileVertexOp(FileOp((action,)), name="n", input_count=2, refs=refs)
    cache_map, is_last = await op.cache_map(0)
    assert is_last
    primary, secondary = cache_map.inputs
    assert primary.content_digest is None
    assert primary.selector is None
    assert secondary.selector is not None
    assert secondary.content_digest is not None
    digest = await secondary.content_digest(source)
    assert digest is not None
    assert digest.startswith("sha256:")
