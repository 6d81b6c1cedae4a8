from __future__ import annotations

import pytest

from torana.core.llb.ops import (
    BuildOp,
    Copy,
    DiffInput,
    DiffOp,
    ExecOp,
    FileAction,
    FileOp,
    MergeInput,
    MergeOp,
    Meta,
    MkDir,
    MkFile,
    Op,
    OpKind,
    PassthroughOp,
    Rm,
    SourceOp,
    Symlink,
)
from torana.core.ops.names import vertex_name

FILE = FileOp(
    (
        FileAction(action=MkDir(path="/d")),
        FileAction(action=MkFile(path="/f")),
        FileAction(action=Symlink(oldpath="/f", newpath="/l")),
        FileAction(action=Rm(path="/r")),
        FileAction(action=Copy(src="/s", dest="/t/")),
        FileAction(),
    )
)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (SourceOp(identifier="local://context"), "local://context"),
        (ExecOp(meta=Meta(args=("/bin/sh", "-c", "a  b"))), "/bin/sh -c a  b"),
        (ExecOp(), ""),
        (FILE, "mkdir /d, mkfile /f, symlink /l -> /f, rm /r, copy /s /t/, unknown"),
        (MergeOp((MergeInput(1), MergeInput(0), MergeInput(9))), "merge (B, A, unknown)"),
        (DiffOp(DiffInput(0), DiffInput(1)), "diff (A) -> (B)"),
        (DiffOp(DiffInput(-1), DiffInput(0)), "diff (scratch) -> (A)"),
        (DiffOp(DiffInput(-7), DiffInput(0)), "diff (unknown) -> (A)"),
        (DiffOp(), "diff (scratch) -> (scratch)"),
        (BuildOp(), "build"),
        (PassthroughOp(id="x"), "passthrough x"),
        (None, "unknown"),
    ],
)
def test_names(kind: OpKind | None, name: str) -> None:
    assert vertex_name(Op(kind=kind), inputs=("A", "B")) == name


def test_a_custom_name_wins() -> None:
    described = {"llb.customname": "[1/2] FROM x"}
    assert vertex_name(Op(kind=BuildOp()), description=described) == "[1/2] FROM x"
    assert vertex_name(Op(kind=BuildOp()), description={"llb.customname": ""}) == "build"
