"""The native snapshotter: each snapshot is a whole copy; needs nothing of the kernel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torana.core.errors import ConflictError
from torana.core.snapshots import changes
from torana.core.snapshots.copytree import copy_tree
from torana.core.snapshots.folders import SnapshotFolders
from torana.core.snapshots.snapshotter import Change, Usage


class NativeSnapshotter:
    """Snapshots as copies, sharing blocks where the file system can (reflink)."""

    name = "native"

    def __init__(self, root: Path) -> None:
        self._folders = SnapshotFolders(root)

    def prepare(self, key: str, parent: str | None) -> None:
        folder = self._folders.create(key, parent)
        if parent is None:
            return
        below = self._folders.folder(parent) / "fs"
        try:
            copy_tree(os.fsencode(below), os.fsencode(folder / "fs"))
        except BaseException:
            self._folders.remove(key)
            raise

    @contextmanager
    def mount(self, key: str, *, readonly: bool) -> Iterator[Path]:
        if not (readonly or self._folders.is_active(key)):
            raise ConflictError(f"a committed snapshot cannot be written to: `{key}`")
        yield self._folders.folder(key) / "fs"

    def commit(self, key: str, name: str) -> None:
        self._folders.commit(key, name)

    def changes(self, name: str, parent: str | None) -> Iterator[Change]:
        above = os.fsencode(self._folders.folder(name) / "fs")
        below = None if parent is None else os.fsencode(self._folders.folder(parent) / "fs")
        return changes.walk_both(below, above)

    def exists(self, name: str) -> bool:
        return self._folders.exists(name)

    def parent(self, name: str) -> str | None:
        return self._folders.parent(name)

    def names(self) -> Iterator[str]:
        return self._folders.names()

    def usage(self, name: str) -> Usage:
        return self._folders.usage(name)

    def remove(self, name: str) -> None:
        self._folders.remove(name)

    def sweep(self) -> None:
        self._folders.sweep()
