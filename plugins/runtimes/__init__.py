"""Built-in container runtimes: crun, runc and bubblewrap."""

from __future__ import annotations

from torana.core.ops.runtime import Runtime
from torana.plugins.hookspecs import hookimpl


@hookimpl
def torana_list_runtimes() -> list[Runtime]:
    """Give the runtimes, the best first: those that limit resources before bubblewrap."""
    from torana.plugins.runtimes.bubblewrap import BubblewrapRuntime
    from torana.plugins.runtimes.crun import CrunRuntime
    from torana.plugins.runtimes.runc import RuncRuntime

    return [CrunRuntime(), RuncRuntime(), BubblewrapRuntime()]
