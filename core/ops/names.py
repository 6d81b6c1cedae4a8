"""Names of vertices, as they are shown in progress.

Spec: reference of the solver, section 2, "Vertex name".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from torana.core.llb.ops import (
    BuildOp,
    Copy,
    DiffOp,
    ExecOp,
    FileAction,
    FileOp,
    MergeOp,
    MkDir,
    MkFile,
    Op,
    PassthroughOp,
    Rm,
    SourceOp,
    Symlink,
)

CUSTOM_NAME: Final = "llb.customname"


def vertex_name(
    op: Op, *, description: Mapping[str, str] | None = None, inputs: Sequence[str] = ()
) -> str:
    """Name a vertex; `inputs` are the names of its inputs, in order.

    Never fails: invalid indexes are shown as `unknown`.
    """
    custom = (description or {}).get(CUSTOM_NAME)
    if custom:
        return custom
    match op.kind:
        case SourceOp():
            return op.kind.identifier
        case ExecOp():
            return " ".join(op.kind.meta.args) if op.kind.meta is not None else ""
        case FileOp():
            return ", ".join(action_name(entry) for entry in op.kind.actions)
        case MergeOp():
            return "merge (" + ", ".join(_input(inputs, m.input) for m in op.kind.inputs) + ")"
        case DiffOp():
            lower = op.kind.lower.input if op.kind.lower is not None else -1
            upper = op.kind.upper.input if op.kind.upper is not None else -1
            return f"diff ({_input(inputs, lower)}) -> ({_input(inputs, upper)})"
        case BuildOp():
            return "build"
        case PassthroughOp():
            return f"passthrough {op.kind.id}"
        case _:
            return "unknown"


def action_name(entry: FileAction) -> str:
    """Describe one action of a file op."""
    match entry.action:
        case Copy(src=src, dest=dest):
            return f"copy {src} {dest}"
        case MkFile(path=path):
            return f"mkfile {path}"
        case MkDir(path=path):
            return f"mkdir {path}"
        case Rm(path=path):
            return f"rm {path}"
        case Symlink(oldpath=old, newpath=new):
            return f"symlink {new} -> {old}"
        case _:
            return "unknown"


def _input(names: Sequence[str], index: int) -> str:
    if index == -1:
        return "scratch"
    return names[index] if 0 <= index < len(names) else "unknown"
