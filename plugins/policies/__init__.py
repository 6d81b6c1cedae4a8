"""Built-in policies: `sources`, lists of what builds may fetch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from torana.plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from torana.core.llb.policy import Policy

NAMES: Final = ("sources",)


@hookimpl
def torana_find_policy(name: str, settings: Mapping[str, Any]) -> Policy | None:
    """Give the built-in policy of that name."""
    if name == "sources":
        from torana.plugins.policies.sources import sources_policy

        return sources_policy(settings)
    return None
