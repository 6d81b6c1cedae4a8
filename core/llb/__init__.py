"""LLB, BuildKit's build language: ops, the `State` builder, definitions and canonical bytes."""

from __future__ import annotations

from torana.core.llb.codec import InvalidLLBError
from torana.core.llb.definition import Definition, SourceInfo, SourceMap
from torana.core.llb.state import (
    ExecState,
    State,
    copy,
    diff,
    from_definition,
    git,
    http,
    image,
    local,
    merge,
    mkdir,
    mkfile,
    oci_layout,
    owner,
    rm,
    scratch,
    source,
    symlink,
)
from torana.core.llb.vertices import MountSpec, SecretSpec, SourceLocation, SSHSpec

__all__ = [
    "Definition",
    "ExecState",
    "InvalidLLBError",
    "MountSpec",
    "SSHSpec",
    "SecretSpec",
    "SourceInfo",
    "SourceLocation",
    "SourceMap",
    "State",
    "copy",
    "diff",
    "from_definition",
    "git",
    "http",
    "image",
    "local",
    "merge",
    "mkdir",
    "mkfile",
    "oci_layout",
    "owner",
    "rm",
    "scratch",
    "source",
    "symlink",
]
