"""`StackingSnapshotter`: what snapshotters share, stacks of layers among it.

A stack is made as a list alone, `<root>/<name>/stack`. On first use its tree is filled in, under a
lock and by renames, so that a crash leaves a stack that is still to be filled. How layers come
together is the snapshotter's: by links, or by the kernel.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from torana.core.snapshots.copytree import copy_metadata
from torana.core.snapshots.folders import SnapshotFolders
from torana.core.snapshots.linking import LinkedLayer
from torana.core.snapshots.removal import remove_entry
from torana.core.snapshots.snapshotter import Change, ChangeKind, LayerOf, Usage

Locate = Callable[[Change], bytes]
"""Gives the file that a change is linked from."""

_STACK: Final = "stack"
_NEW: Final = "fs.new"


class StackingSnapshotter(ABC):
    """Snapshots in folders; subclasses say how they are mounted, compared and filled."""

    def __init__(self, root: Path) -> None:
        self._folders = SnapshotFolders(root)
        self._layers: dict[str, tuple[LayerOf, ...]] = {}

    @abstractmethod
    def mount(self, key: str, *, readonly: bool) -> AbstractContextManager[Path]: ...

    @abstractmethod
    def changes(self, name: str | None, parent: str | None) -> Iterator[Change]: ...

    @abstractmethod
    def _fill(self, name: str, tree: Path, layers: Sequence[LayerOf]) -> None:
        """Put layers on each other in the empty folder `tree`, soon to be that of stack `name`."""

    def stack(self, name: str, layers: Sequence[LayerOf]) -> None:
        key = f"stack-{name}"
        folder = self._folders.create(key, None)
        (folder / "fs").rmdir()
        (folder / _STACK).write_text(_encode(layers))
        try:
            self._folders.commit(key, name)
        except BaseException:
            self._folders.remove(key)
            raise

    def layers(self, name: str) -> tuple[LayerOf, ...]:
        known = self._layers.get(name)
        if known is None:
            try:
                known = _decode((self._folders.folder(name) / _STACK).read_text())
            except FileNotFoundError:
                parent = self._folders.parent(name)
                below = () if parent is None else self.layers(parent)
                known = (*below, LayerOf(name, parent))
            self._layers[name] = known
        return known

    def is_stack(self, name: str) -> bool:
        return (self._folders.folder(name) / _STACK).exists()

    def tree(self, name: str) -> Path:
        """Give the folder with the snapshot's own files; a stack is filled first."""
        folder = self._folders.folder(name)
        tree = folder / "fs"
        if tree.is_dir():
            return tree
        with self._folders.locked(folder):
            if not tree.is_dir():
                self._fill_once(name, folder)
        return tree

    def _fill_once(self, name: str, folder: Path) -> None:
        layers = _decode((folder / _STACK).read_text())
        new = folder / _NEW
        discard(new)
        new.mkdir(mode=0o755)
        os.chmod(new, 0o755)
        self._fill(name, new, layers)
        base = next((layer.upper for layer in layers if layer.upper is not None), None)
        if base is not None:
            # No layer holds the root itself.
            root = os.fsencode(self.tree(base))
            copy_metadata(root, os.fsencode(new), os.lstat(root))
        os.rename(new, folder / "fs")

    def base_of(self, layers: Sequence[LayerOf]) -> tuple[str | None, Sequence[LayerOf]]:
        """Find the snapshot that has the most of `layers` in it already; gives the rest, too."""
        for count in range(len(layers), 0, -1):
            upper = layers[count - 1].upper
            if upper is not None and self.layers(upper) == tuple(layers[:count]):
                return upper, layers[count:]
        return None, layers

    def link_layers(self, layers: Iterable[LayerOf], tree: Path) -> None:
        """Put layers on the tree in a folder, by hard links."""
        root = os.fsencode(tree)
        for layer in layers:
            if layer.upper is None:
                LinkedLayer(root, None, locate=source_of).apply(self.changes(None, layer.lower))
                continue
            with self.mount(layer.upper, readonly=True) as source:
                linked = LinkedLayer(root, os.fsencode(source), locate=self.locator(layer))
                linked.apply(self.changes(layer.upper, layer.lower))

    def locator(self, layer: LayerOf) -> Locate:
        """Say where the files of a layer's changes can be linked from."""
        return source_of

    def exists(self, name: str) -> bool:
        return self._folders.exists(name)

    def parent(self, name: str) -> str | None:
        return self._folders.parent(name)

    def names(self) -> Iterator[str]:
        return self._folders.names()

    def usage(self, name: str) -> Usage:
        return self._folders.usage(name, shares_links=self.is_stack(name))

    def remove(self, name: str) -> None:
        self._layers.pop(name, None)
        self._folders.remove(name)

    def sweep(self, *, pause_s: float = 0.0) -> None:
        self._folders.sweep(pause_s=pause_s)

    def has_trash(self) -> bool:
        return self._folders.has_trash()

    @abstractmethod
    def close(self) -> None: ...


def source_of(change: Change) -> bytes:
    """Give a change's own file."""
    assert change.source is not None
    return change.source


def topmost(directories: Iterable[str]) -> Locate:
    """Give what finds a file in the first of `directories` that has it: the one that is shown."""
    folders = [os.fsencode(path) for path in directories]

    def locate(change: Change) -> bytes:
        for folder in folders:
            full = folder + b"/" + change.path
            if os.path.lexists(full):
                return full
        return source_of(change)

    return locate


def deletion_of_all(root: bytes) -> Iterator[Change]:
    """Give what makes the tree `root` empty."""
    for name in sorted(os.listdir(root)):
        yield Change(ChangeKind.DELETE, name, None)


def discard(path: Path) -> None:
    """Remove a tree; missing is no error."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        remove_entry(folder, os.fsencode(path.name))
    except FileNotFoundError:
        pass
    finally:
        os.close(folder)


def _encode(layers: Sequence[LayerOf]) -> str:
    return json.dumps([[layer.upper, layer.lower, layer.description] for layer in layers])


def _decode(text: str) -> tuple[LayerOf, ...]:
    return tuple(LayerOf(*entry) for entry in json.loads(text))
