"""Built-in snapshotters: overlay, native, and `auto`, which is the first of them that works."""

from __future__ import annotations

from functools import partial

from torana.core.snapshots.choose import MakeSnapshotter, choose
from torana.plugins.hookspecs import hookimpl

_NAMES = ("auto", "overlay", "native")


@hookimpl
def torana_find_snapshotter(name: str) -> MakeSnapshotter | None:
    """Give the built-in snapshotter of that name."""
    return partial(choose, wanted=name) if name in _NAMES else None
