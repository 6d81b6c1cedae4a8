"""Built-in container runtimes: crun and runc."""

from __future__ import annotations

from torana.core.ops.runtime import Runtime
from torana.plugins.hookspecs import hookimpl


@hookimpl
def torana_list_runtimes() -> list[Runtime]:
    """Give the runtimes, the cheapest start first."""
    from torana.plugins.runtimes.crun import CrunRuntime
    from torana.plugins.runtimes.runc import RuncRuntime

    return [CrunRuntime(), RuncRuntime()]
