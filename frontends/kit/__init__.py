"""The authoring kit for frontends: what authors import.

Names are loaded on first use, so that a frontend that needs no grammar loads no lark.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from torana.core.errors import BuildFileError, UserError
    from torana.core.llb.ops import CDIDevice, NetMode, SecurityMode
    from torana.core.llb.state import State
    from torana.core.llb.vertices import MountSpec, SecretSpec, SSHSpec
    from torana.core.oci.platform import Platform
    from torana.frontends.kit.context import BuildContext
    from torana.frontends.kit.frontend import Frontend
    from torana.frontends.kit.grammarfrontend import GrammarFrontend
    from torana.frontends.kit.image import Image, bind_mount, cache_mount
    from torana.frontends.kit.language import TextFrontend
    from torana.frontends.kit.lint import Rule
    from torana.frontends.kit.lowering import LowerContext, Target
    from torana.frontends.kit.tree import Place, Tree
    from torana.frontends.kit.typedoptions import option
    from torana.frontends.kit.yamlnode import YamlNode

__all__ = [
    "BuildContext",
    "BuildFileError",
    "CDIDevice",
    "Frontend",
    "GrammarFrontend",
    "Image",
    "LowerContext",
    "MountSpec",
    "NetMode",
    "Place",
    "Platform",
    "Rule",
    "SSHSpec",
    "SecretSpec",
    "SecurityMode",
    "State",
    "Target",
    "TextFrontend",
    "Tree",
    "UserError",
    "YamlNode",
    "bind_mount",
    "cache_mount",
    "option",
]

_KIT: Final = "torana.frontends.kit"
_HOMES: Final = {
    "torana.core.errors": ("BuildFileError", "UserError"),
    "torana.core.llb.ops": ("CDIDevice", "NetMode", "SecurityMode"),
    "torana.core.llb.state": ("State",),
    "torana.core.llb.vertices": ("MountSpec", "SSHSpec", "SecretSpec"),
    "torana.core.oci.platform": ("Platform",),
    f"{_KIT}.context": ("BuildContext",),
    f"{_KIT}.frontend": ("Frontend",),
    f"{_KIT}.grammarfrontend": ("GrammarFrontend",),
    f"{_KIT}.image": ("Image", "bind_mount", "cache_mount"),
    f"{_KIT}.language": ("TextFrontend",),
    f"{_KIT}.lint": ("Rule",),
    f"{_KIT}.lowering": ("LowerContext", "Target"),
    f"{_KIT}.tree": ("Place", "Tree"),
    f"{_KIT}.typedoptions": ("option",),
    f"{_KIT}.yamlnode": ("YamlNode",),
}
_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value
