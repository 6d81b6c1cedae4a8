"""The overlay snapshotter: a layer holds only what it changes; the kernel shows the whole."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from torana.core.errors import ConflictError
from torana.core.snapshots import changes, mounts
from torana.core.snapshots.copytree import copy_xattrs
from torana.core.snapshots.forms import Forms
from torana.core.snapshots.mounttargets import MountTargets
from torana.core.snapshots.snapshotter import Change, LayerOf
from torana.core.snapshots.stacks import (
    Locate,
    StackingSnapshotter,
    deletion_of_all,
    source_of,
    topmost,
)


class OverlaySnapshotter(StackingSnapshotter):
    """Snapshots as overlayfs layers. The process must be in a private mount namespace.

    `options` are added to every mount: `userxattr` in user namespaces. A stack is shown by the
    kernel, too, from the forms of its layers (`forms.py`); by links where that cannot be.
    """

    name = "overlay"

    def __init__(self, root: Path, *, options: tuple[str, ...] = ()) -> None:
        super().__init__(root)
        self.options = options
        self._forms = Forms(self, self._folders)
        self._targets = MountTargets(root.parent / "mounts")
        self._lock = threading.Lock()
        self._writable: dict[str, tuple[ExitStack, Path, int]] = {}

    def prepare(self, key: str, parent: str | None) -> None:
        folder = self._folders.create(key, parent)
        if parent is None:
            return
        try:
            tree = self.tree(parent)
        except BaseException:
            self._folders.remove(key)
            raise
        (folder / "work").mkdir(mode=0o700)
        # The root directory of the layer is that of the whole: it starts as the parent's.
        below = os.stat(tree)
        os.chown(folder / "fs", below.st_uid, below.st_gid)
        copy_xattrs(os.fsencode(tree), os.fsencode(folder / "fs"))
        os.chmod(folder / "fs", below.st_mode & 0o7777)
        os.utime(folder / "fs", ns=(below.st_atime_ns, below.st_mtime_ns))

    def directories(self, name: str) -> list[str]:
        """Give the directories that make up an active or committed snapshot, top first."""
        found: list[str] = []
        for link in self._folders.chain(name):
            found.append(str(self.tree(link)))
            found += self._forms.below(link)
        return found

    def lowers(self, name: str) -> list[str]:
        """Give what is mounted to show a snapshot, top first."""
        return self.directories(name)

    @contextmanager
    def mount(self, key: str, *, readonly: bool) -> Iterator[Path]:
        folder = self._folders.folder(key)
        if readonly:
            lowers = self.lowers(key)
            with self._targets.new() as target:
                # Active or not: all layers are lower ones, so that nothing can be written.
                if len(lowers) == 1:
                    mounts.bind(lowers[0], str(target), readonly=True)
                else:
                    self._show(str(target), lowers)
                try:
                    yield target
                finally:
                    self._hide(str(target))
            return
        if not self._folders.is_active(key):
            raise ConflictError(f"a committed snapshot cannot be written to: `{key}`")
        if self._folders.parent(key) is None:
            # Without anything below, the folder is the tree.
            yield folder / "fs"
            return
        target = self._enter_writable(key, folder)
        try:
            yield target
        finally:
            self._leave_writable(key)

    def _enter_writable(self, key: str, folder: Path) -> Path:
        """Mount an active snapshot, or share its mount: an upper directory stands only one."""
        with self._lock:
            stack, target, count = self._writable.get(key, (None, None, 0))
            if stack is None or target is None:
                lowers = self.lowers(key)
                with ExitStack() as made:
                    target = made.enter_context(self._targets.new())
                    self._show(str(target), lowers[1:], lowers[0], str(folder / "work"))
                    made.callback(self._hide, str(target))
                    stack = made.pop_all()
            self._writable[key] = stack, target, count + 1
            return target

    def _leave_writable(self, key: str) -> None:
        with self._lock:
            stack, target, count = self._writable.pop(key)
            if count > 1:
                self._writable[key] = stack, target, count - 1
                return
            stack.close()

    def _show(
        self, target: str, lowers: Sequence[str], upper: str | None = None, work: str | None = None
    ) -> None:
        """Mount the directories of a snapshot, `lowers` top first."""
        mounts.mount_overlay(target, lowers, upper=upper, work=work, options=self.options)

    def _hide(self, target: str) -> None:
        mounts.unmount(target)

    def commit(self, key: str, name: str) -> None:
        self._folders.commit(key, name)
        # Not earlier: a snapshot that could not be committed is mounted again. It holds an empty
        # folder of the kernel's.
        shutil.rmtree(self._folders.folder(name) / "work", ignore_errors=True)

    def changes(self, name: str | None, parent: str | None) -> Iterator[Change]:
        if name is None:
            if parent is not None:
                with self.mount(parent, readonly=True) as below:
                    yield from deletion_of_all(os.fsencode(below))
            return
        if parent is not None and self._folders.parent(name) == parent:
            upper = os.fsencode(self.tree(name))
            with self.mount(parent, readonly=True) as below:
                yield from changes.walk_overlay(upper, os.fsencode(below))
            return
        with self.mount(name, readonly=True) as merged:
            above = os.fsencode(merged)
            if parent is None:
                yield from changes.walk_both(None, above)
                return
            with self.mount(parent, readonly=True) as below:
                yield from changes.walk_both(os.fsencode(below), above)

    def remove(self, name: str) -> None:
        self._forms.forget(name)
        super().remove(name)

    def sweep(self, *, pause_s: float = 0.0) -> None:
        super().sweep(pause_s=pause_s)
        self._targets.sweep()

    def close(self) -> None:
        self._targets.close()

    # Stacks

    def locator(self, layer: LayerOf) -> Locate:
        if layer.upper is None or self._folders.parent(layer.upper) == layer.lower:
            return source_of
        return topmost(self.directories(layer.upper))

    def _fill(self, name: str, tree: Path, layers: Sequence[LayerOf]) -> None:
        base, rest = self.base_of(layers)
        if not self._forms.stack(name, base, rest):
            whole = [] if base is None else [LayerOf(base, None)]
            self.link_layers([*whole, *rest], tree)
