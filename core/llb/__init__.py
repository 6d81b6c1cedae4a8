"""LLB, BuildKit's build language: ops, the `State` builder, definitions and canonical bytes.

Names are loaded on first use, so that reading a definition doesn't load the builder.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from torana.core.llb.codec import InvalidLLBError
    from torana.core.llb.comparison import Comparison, compare
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
    from torana.core.llb.validate import Graph
    from torana.core.llb.vertices import MountSpec, SecretSpec, SourceLocation, SSHSpec

__all__ = [
    "Comparison",
    "Definition",
    "ExecState",
    "Graph",
    "InvalidLLBError",
    "MountSpec",
    "SSHSpec",
    "SecretSpec",
    "SourceInfo",
    "SourceLocation",
    "SourceMap",
    "State",
    "compare",
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

_HOMES: Final = {
    "codec": ("InvalidLLBError",),
    "comparison": ("Comparison", "compare"),
    "definition": ("Definition", "SourceInfo", "SourceMap"),
    "validate": ("Graph",),  # `validate` itself is the module
    "vertices": ("MountSpec", "SSHSpec", "SecretSpec", "SourceLocation"),
}
_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME_OF.get(name, 'state')}"), name)
    globals()[name] = value
    return value
