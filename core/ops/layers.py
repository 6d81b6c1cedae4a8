"""Layers put on top of each other: what merge and diff are made of.

A layer is what one snapshot changes in another. Applied to a tree it gives what a runtime gets by
unpacking it: directories unite, anything else replaces what was there, deletions delete, and the
directories on the way to a change come along with their metadata.

Spec: reference of the solver, section 6.6.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torana.core.cache.ref import ImmutableRef, RefStore
from torana.core.ops.file.root import OPEN_FOLDER, remove
from torana.core.pool import run_blocking
from torana.core.snapshots.copytree import copy_metadata, make_node
from torana.core.snapshots.snapshotter import Change, ChangeKind, Snapshotter


@dataclass(frozen=True, slots=True)
class LayerOf:
    """What snapshot `upper` changes in `lower`; `upper` None is empty and deletes all."""

    upper: str | None
    lower: str | None


def chain(ref: ImmutableRef) -> list[LayerOf]:
    """Give the layers of a ref, base first."""
    found: list[LayerOf] = []
    current: ImmutableRef | None = ref
    while current is not None:
        below = current.parent
        lower = None if below is None else below.snapshot_name
        found.append(LayerOf(current.snapshot_name, lower))
        current = below
    return found[::-1]


async def apply_layers(
    layers: Sequence[LayerOf],
    base: ImmutableRef | None,
    *,
    refs: RefStore,
    snapshots: Snapshotter,
    description: str,
) -> ImmutableRef:
    """Make one snapshot on top of `base` with `layers` applied in order."""
    mutable = await refs.new_mutable(base, description=description)
    try:

        def work() -> None:
            with mutable.mount() as target:
                for layer in layers:
                    apply_layer(snapshots, layer, target)

        await run_blocking(work)
        return await mutable.commit()
    except BaseException:
        await mutable.release()
        raise


def apply_layer(snapshots: Snapshotter, layer: LayerOf, target: Path) -> None:
    """Apply one layer to the tree at `target`. Blocks."""
    into = os.fsencode(target)
    if layer.upper is None:
        if layer.lower is not None:
            with snapshots.mount(layer.lower, readonly=True) as below:
                names = sorted(os.listdir(os.fsencode(below)))
            _Target(into, None).apply(Change(ChangeKind.DELETE, name, None) for name in names)
        return
    with snapshots.mount(layer.upper, readonly=True) as source:
        _Target(into, os.fsencode(source)).apply(snapshots.changes(layer.upper, layer.lower))


def deletions(snapshots: Snapshotter, layers: Iterable[LayerOf]) -> list[tuple[bytes, str | None]]:
    """Give the paths that layers delete, with the snapshot that has their parents. Blocks."""
    found: list[tuple[bytes, str | None]] = []
    for layer in layers:
        if layer.upper is not None:
            found += [
                (change.path, layer.upper)
                for change in snapshots.changes(layer.upper, layer.lower)
                if change.kind is ChangeKind.DELETE
            ]
        elif layer.lower is not None:
            with snapshots.mount(layer.lower, readonly=True) as below:
                found += [(name, None) for name in sorted(os.listdir(os.fsencode(below)))]
    return found


def place_marks(
    snapshots: Snapshotter, paths: Iterable[tuple[bytes, str | None]], target: Path
) -> None:
    """Put an empty file at each path, for a layer above to delete. Blocks."""
    into = os.fsencode(target)
    for path, holder in paths:
        if holder is None:
            _Target(into, None).mark(path)
        else:
            with snapshots.mount(holder, readonly=True) as source:
                _Target(into, os.fsencode(source)).mark(path)


class _Target:
    """A tree that changes of one layer are written to; `source` is the layer's whole tree.

    All directories on the way are checked or made first, so that no link is ever followed.
    """

    def __init__(self, root: bytes, source: bytes | None) -> None:
        self._root = root
        self._source = source
        self._known: dict[bytes, os.stat_result | None] = {}
        self._links: dict[tuple[int, int], bytes] = {}

    def apply(self, changes: Iterable[Change]) -> None:
        for change in changes:
            self._parents(change.path)
            if change.kind is ChangeKind.DELETE:
                self._clear(change.path)
            else:
                self._put(change.path)
        # A directory's time changes with its content, so directories come last, inner ones first.
        for path in sorted(self._known, reverse=True):
            status = self._known[path]
            if status is not None and self._source is not None:
                copy_metadata(self._source + b"/" + path, self._root + b"/" + path, status)

    def mark(self, path: bytes) -> None:
        self._parents(path)
        self._clear(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        os.close(os.open(self._root + b"/" + path, flags, 0o600))

    def _parents(self, path: bytes) -> None:
        position = path.find(b"/")
        while position >= 0:
            parent = path[:position]
            if parent not in self._known:
                self._put_folder(parent)
            position = path.find(b"/", position + 1)

    def _put(self, path: bytes) -> None:
        assert self._source is not None
        source = self._source + b"/" + path
        status = os.lstat(source)
        if stat.S_ISDIR(status.st_mode):
            self._put_folder(path)
            return
        self._clear(path)
        made = self._root + b"/" + path
        if status.st_nlink > 1:
            known = self._links.setdefault((status.st_dev, status.st_ino), made)
            if known != made:
                os.link(known, made, follow_symlinks=False)
                return
        make_node(made, status, source)
        copy_metadata(source, made, status)

    def _put_folder(self, path: bytes) -> None:
        status = None if self._source is None else os.lstat(self._source + b"/" + path)
        self._known[path] = status
        made = self._root + b"/" + path
        try:
            if stat.S_ISDIR(os.lstat(made).st_mode):
                return
            os.unlink(made)
        except FileNotFoundError:
            pass
        os.mkdir(made, 0o755)

    def _clear(self, path: bytes) -> None:
        above, _, name = (self._root + b"/" + path).rpartition(b"/")
        folder = os.open(above, OPEN_FOLDER)
        try:
            remove(folder, name)
        except FileNotFoundError:
            return
        finally:
            os.close(folder)
