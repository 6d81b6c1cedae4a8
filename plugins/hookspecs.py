"""The hooks that plugins implement (pluggy). Each has a user among the built-in plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pluggy

if TYPE_CHECKING:
    from torana.core.ops.runtime import Runtime
    from torana.core.ops.source import Source
    from torana.plugins.exporter import Exporter

PROJECT: Final = "torana"
API: Final = 1  # plugins carry `api = 1`; it changes when a hook changes incompatibly

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec(firstresult=True)
def torana_find_exporter(type: str) -> Exporter | None:
    """Return the exporter of `type` (`-o type=...`), or None to let the next plugin try."""


@hookspec
def torana_list_exporters() -> list[str]:  # type: ignore[empty-body]  # a specification
    """Return the exporter types that `torana_find_exporter` knows, for messages and docs."""


@hookspec(firstresult=True)
def torana_find_source(scheme: str) -> Source | None:
    """Return the source that serves `<scheme>://` identifiers, or None.

    Called when an op is resolved; must not block.
    """


@hookspec
def torana_list_runtimes() -> list[Runtime]:  # type: ignore[empty-body]  # a specification
    """Return runtimes in order of preference; the first one whose start test passes is used."""
