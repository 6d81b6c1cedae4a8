"""The overlay snapshotter: a layer holds only what it changes; the kernel shows the whole."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torana.core.errors import ConflictError
from torana.core.snapshots import changes, mounts
from torana.core.snapshots.copytree import copy_xattrs
from torana.core.snapshots.folders import SnapshotFolders
from torana.core.snapshots.snapshotter import Change, Usage

_numbers = itertools.count()


class OverlaySnapshotter:
    """Snapshots as overlayfs layers. The process must be in a private mount namespace.

    `options` are added to every mount: `userxattr` in user namespaces.
    """

    name = "overlay"

    def __init__(self, root: Path, *, options: tuple[str, ...] = ()) -> None:
        self._folders = SnapshotFolders(root)
        self.options = options
        self._mounts = root.parent / "mounts"
        self._mounts.mkdir(exist_ok=True)

    def prepare(self, key: str, parent: str | None) -> None:
        folder = self._folders.create(key, parent)
        if parent is None:
            return
        (folder / "work").mkdir(mode=0o700)
        # The root directory of the layer is that of the whole: it starts as the parent's.
        below = os.stat(self._folders.folder(parent) / "fs")
        os.chown(folder / "fs", below.st_uid, below.st_gid)
        copy_xattrs(os.fsencode(self._folders.folder(parent) / "fs"), os.fsencode(folder / "fs"))
        os.chmod(folder / "fs", below.st_mode & 0o7777)
        os.utime(folder / "fs", ns=(below.st_atime_ns, below.st_mtime_ns))

    @contextmanager
    def mount(self, key: str, *, readonly: bool) -> Iterator[Path]:
        folder = self._folders.folder(key)
        is_active = self._folders.is_active(key)
        if not (readonly or is_active):
            raise ConflictError(f"a committed snapshot cannot be written to: `{key}`")
        chain = self._folders.chain(key)
        if len(chain) == 1:
            # Without anything below, the folder is the tree.
            yield folder / "fs"
            return
        lowers = [str(self._folders.folder(name) / "fs") for name in chain]
        with self._target() as target:
            if not readonly:
                mounts.mount_overlay(
                    str(target),
                    lowers[1:],
                    upper=lowers[0],
                    work=str(folder / "work"),
                    options=self.options,
                )
            else:
                # Active or not: all layers are lower ones, so that nothing can be written.
                mounts.mount_overlay(str(target), lowers, options=self.options)
            try:
                yield target
            finally:
                mounts.unmount(str(target))

    @contextmanager
    def _target(self) -> Iterator[Path]:
        target = self._mounts / f"{os.getpid()}-{next(_numbers)}"
        target.mkdir()
        try:
            yield target
        finally:
            target.rmdir()

    def commit(self, key: str, name: str) -> None:
        work = self._folders.folder(key) / "work"
        if work.exists():
            # The kernel leaves an empty `work` inside, which nobody needs any more.
            shutil.rmtree(work)
        self._folders.commit(key, name)

    def changes(self, name: str, parent: str | None) -> Iterator[Change]:
        with self.mount(name, readonly=True) as merged:
            upper = os.fsencode(self._folders.folder(name) / "fs")
            if parent is None:
                yield from changes.walk_both(None, os.fsencode(merged))
                return
            with self.mount(parent, readonly=True) as below:
                pair = os.fsencode(below), os.fsencode(merged)
                if self._folders.parent(name) == parent:
                    yield from changes.walk_overlay(upper, *pair)
                else:
                    yield from changes.walk_both(*pair)

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
        for target in self._mounts.iterdir():
            pid = target.name.partition("-")[0]
            if pid.isdigit() and not Path("/proc", pid).exists():
                try:
                    target.rmdir()
                except OSError:
                    continue  # still mounted by somebody
