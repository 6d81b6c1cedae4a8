"""The native snapshotter: each snapshot is a whole tree; needs nothing of the kernel."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from torana.core.errors import ConflictError
from torana.core.snapshots import changes
from torana.core.snapshots.copytree import copy_tree
from torana.core.snapshots.snapshotter import Change, LayerOf
from torana.core.snapshots.stacks import StackingSnapshotter, deletion_of_all


class NativeSnapshotter(StackingSnapshotter):
    """Snapshots as copies, sharing blocks where the file system can (reflink); stacks as links."""

    name = "native"

    def prepare(self, key: str, parent: str | None) -> None:
        folder = self._folders.create(key, parent)
        if parent is None:
            return
        try:
            copy_tree(os.fsencode(self.tree(parent)), os.fsencode(folder / "fs"))
        except BaseException:
            self._folders.remove(key)
            raise

    @contextmanager
    def mount(self, key: str, *, readonly: bool) -> Iterator[Path]:
        if not (readonly or self._folders.is_active(key)):
            raise ConflictError(f"a committed snapshot cannot be written to: `{key}`")
        yield self.tree(key)

    def directories(self, name: str) -> list[str]:
        return [str(self.tree(name))]

    def commit(self, key: str, name: str) -> None:
        self._folders.commit(key, name)

    def changes(self, name: str | None, parent: str | None) -> Iterator[Change]:
        below = None if parent is None else os.fsencode(self.tree(parent))
        if name is not None:
            return changes.walk_both(below, os.fsencode(self.tree(name)))
        return iter(()) if below is None else deletion_of_all(below)

    def _fill(self, name: str, tree: Path, layers: Sequence[LayerOf]) -> None:
        base, rest = self.base_of(layers)
        whole = [] if base is None else [LayerOf(base, None)]
        self.link_layers([*whole, *rest], tree)

    def close(self) -> None:
        """Nothing is mounted, nothing is left."""
