"""`LayerPaths`: the paths that a layer of an overlay has a say in."""

from __future__ import annotations

import os

from torana.core.cache.digesttree import join, parent
from torana.core.snapshots.changes import is_opaque


class LayerPaths:
    """What the directory `layer` adds, changes or deletes; found once, without reading files."""

    def __init__(self, layer: bytes) -> None:
        self._touched: set[bytes] = {b""}
        self._replaced: set[bytes] = set()  # nothing of the layers below shows at or under these
        pending = [b""]
        while pending:
            folder = pending.pop()
            with os.scandir(join(layer, folder) if folder else layer) as entries:
                for entry in entries:
                    path = join(folder, entry.name)
                    self._touched.add(path)
                    if not entry.is_dir(follow_symlinks=False) or is_opaque(entry.path):
                        self._replaced.add(path)
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(path)

    def leaves_alone(self, path: bytes) -> bool:
        """Say whether a path, with all below it, is as it is in the layers below."""
        if path in self._touched:
            return False
        while path:
            path = parent(path)
            if path in self._replaced:
                return False
        return True
