"""`fault_point`: where tests let the store fail. In normal use it does nothing.

A point is named after what is about to happen. `torana.core.testing.faults` makes points raise or
kill the process.
"""

from __future__ import annotations

from collections.abc import Callable

_handler: Callable[[str], object] | None = None


def fault_point(name: str) -> None:
    """Tell the handler, if there is one, that `name` is about to happen."""
    if _handler is not None:
        _handler(name)


def set_fault_handler(handler: Callable[[str], object] | None) -> None:
    """Have `handler` called at every fault point of this process; None ends it."""
    global _handler
    _handler = handler
