"""`Built`: a stage that has become LLB."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final

from torana.core.llb import ops as o
from torana.core.llb.state import State
from torana.core.oci.platform import Platform
from torana.core.records import dataclass

_SHELL: Final = ("/bin/sh", "-ec")


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A stage as LLB: its tree, what later steps of it inherit, and its image's config."""

    tree: State
    platform: Platform
    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = ""
    shell: tuple[str, ...] = _SHELL
    network: o.NetMode | None = None
    config: Mapping[str, Any]
    base_config: bytes | None = None
