"""Copies of a client's folder that take unchanged files from the copy before."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.core.cache.stores import Store

from torana.core.cache.copies import Copies
from torana.core.cache.local import LocalSelection, LocalTree
from torana.core.llb.ops import Copy, FileAction, FileOp, MkFile
from torana.core.ops.file.op import FileVertexOp

pytestmark = pytest.mark.needs("root")


class Project:
    """A store with a client's folder."""

    def __init__(self, root: Path) -> None:
        self.store = Store(root)
        self.copies = self.store.refs.copies
        self.folder = root / "context"
        for name in ("a/one", "a/two", "b/c/three", "top"):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(name)

    def tree(self, **selection: Any) -> LocalTree:
        return LocalTree(
            self.folder, manager=self.store.refs, selection=LocalSelection(**selection)
        )

    def run(self, *actions: FileAction, inputs: list[Any], copies: Copies | None) -> Any:
        async def work() -> Any:
            for tree in inputs:
                if isinstance(tree, LocalTree):
                    await tree.content_digest([])
            op = FileVertexOp(
                FileOp(actions),
                name="",
                input_count=len(inputs),
                refs=self.store.refs,
                copies=copies,
            )
            return (await op.exec(inputs))[0]

        return asyncio.run(work())

    def copy(self, *, has_reuse: bool = True, base: Any = None, **changes: Any) -> Any:
        inputs = [self.tree()] if base is None else [self.tree(), base]
        action = FileAction(
            input=-1 if base is None else 1,
            secondary_input=0,
            output=0,
            action=copying(**changes),
        )
        return self.run(action, inputs=inputs, copies=self.copies if has_reuse else None)


def copying(**changes: Any) -> Copy:
    values: dict[str, Any] = {
        "src": "/",
        "dest": "/dst/",
        "mode": -1,
        "timestamp": -1,
        "create_dest_path": True,
        "dir_copy_contents": True,
        **changes,
    }
    return Copy(**values)


def described(ref: Any) -> dict[str, tuple[Any, ...]]:
    """Everything about a tree that a copy decides, links within it included."""
    found: dict[str, tuple[Any, ...]] = {}
    with ref.mount() as root:
        inodes: dict[int, list[str]] = {}
        for path in sorted(root.rglob("*")):
            status = path.lstat()
            name = str(path.relative_to(root))
            content: Any = None
            if stat.S_ISREG(status.st_mode):
                content = path.read_bytes()
                inodes.setdefault(status.st_ino, []).append(name)
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            found[name] = (
                status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, content,
            )  # fmt: skip
        found["links"] = tuple(tuple(names) for names in inodes.values() if len(names) > 1)
    return found


def inode(ref: Any, name: str) -> int:
    with ref.mount() as root:
        return os.lstat(root / name).st_ino


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path)
    yield project
    project.store.close()


def test_only_changed_files_are_made_anew(project: Project) -> None:
    first = project.copy()
    (project.folder / "a/one").write_text("changed")
    second = project.copy()
    for name in ("dst/a/two", "dst/b/c/three", "dst/top"):
        assert inode(first, name) == inode(second, name)
    assert inode(first, "dst/a/one") != inode(second, "dst/a/one")
    assert described(second) == described(project.copy(has_reuse=False))


@pytest.mark.parametrize(
    "changes",
    [{"mode": 0o600}, {"timestamp": 5}, {"dest": "/other/"}, {"src": "/a"}],
    ids=str,
)
def test_another_copy_starts_afresh(project: Project, changes: dict[str, Any]) -> None:
    project.copy()
    assert described(project.copy(**changes)) == described(project.copy(has_reuse=False, **changes))
    assert described(project.copy(**changes)) == described(project.copy(has_reuse=False, **changes))


def test_a_touched_file_gets_its_new_time(project: Project) -> None:
    project.copy()
    os.utime(project.folder / "top", (1, 1))
    assert described(project.copy()) == described(project.copy(has_reuse=False))


def test_a_damaged_earlier_copy_is_not_taken(project: Project) -> None:
    first = project.copy()
    with first.mount() as root:
        (root / "dst/top").write_text("damaged!")
        (root / "dst/a/one").unlink()
    assert described(project.copy()) == described(project.copy(has_reuse=False))


def test_directories_that_were_there_are_copied_into(project: Project) -> None:
    base = project.copy()
    (project.folder / "top").write_text("changed")
    assert described(project.copy(base=base)) == described(project.copy(base=base, has_reuse=False))


def test_a_snapshot_that_is_still_written_to_takes_nothing(project: Project) -> None:
    """`mkfile` writes into the file that is there: it must not be one of another snapshot."""
    actions = [
        FileAction(input=-1, secondary_input=0, output=-1, action=copying()),
        FileAction(
            input=1,
            secondary_input=-1,
            output=0,
            action=MkFile(path="/dst/top", mode=0o644, data=b"over", timestamp=-1),
        ),
    ]
    first = project.copy()
    project.run(*actions, inputs=[project.tree()], copies=project.copies)
    with first.mount() as root:
        assert (root / "dst/top").read_text() == "top"


def test_without_its_snapshot_an_earlier_copy_is_forgotten(project: Project) -> None:
    ref = project.copy()
    asyncio.run(ref.release())
    project.store.refs.records.delete(ref.id)
    assert project.store.database.row("SELECT count(*) FROM copies") == (0,)
    assert described(project.copy()) == described(project.copy(has_reuse=False))


def test_data_that_is_gone_is_no_failure(project: Project) -> None:
    ref = project.copy()
    project.store.snapshots.remove(ref.snapshot_name)
    assert described(project.copy()) == described(project.copy(has_reuse=False))


names = st.sampled_from(["a/one", "a/two", "b/c/three", "top", "a/new", "d/new"])
edits = st.lists(
    st.tuples(
        names, st.sampled_from(["write", "remove", "chmod", "touch", "link", "hard", "move"])
    ),
    min_size=1,
    max_size=4,
)


def edit(folder: Path, name: str, kind: str, number: int) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    if kind in ("write", "link", "hard"):
        path.unlink(missing_ok=True)
    if kind == "write":
        path.write_text(str(number % 2))
    elif kind == "link":
        path.symlink_to("elsewhere")
    elif kind == "hard" and (folder / "b/c/three").is_file() and name != "b/c/three":
        os.link(folder / "b/c/three", path)
    elif kind == "remove":
        path.unlink(missing_ok=True)
    elif kind == "move" and (folder / "a").exists() and not (folder / "moved").exists():
        (folder / "a").rename(folder / "moved")
    elif path.is_file() and not path.is_symlink():
        path.chmod(0o600 + number % 8) if kind == "chmod" else path.touch()


@given(st.lists(edits, max_size=3))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_copy_is_the_same_with_and_without_earlier_ones(
    rounds: list[list[tuple[str, str]]],
) -> None:
    root = Path(tempfile.mkdtemp())
    project = Project(root)
    try:
        project.copy()
        for number, steps in enumerate(rounds):
            for name, kind in steps:
                edit(project.folder, name, kind, number)
            assert described(project.copy()) == described(project.copy(has_reuse=False))
    finally:
        project.store.close()
        shutil.rmtree(root)
