"""Built-in snapshotters: overlay, fuse-overlayfs, native; `auto` is the first that works."""

from __future__ import annotations

from functools import partial

from torana.core.snapshots.choose import NAMES, MakeSnapshotter, choose
from torana.plugins.hookspecs import hookimpl


@hookimpl
def torana_find_snapshotter(name: str) -> MakeSnapshotter | None:
    """Give the built-in snapshotter of that name."""
    return partial(choose, wanted=name) if name in NAMES else None
