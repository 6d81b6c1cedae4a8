"""The `Snapshotter` protocol: layered trees on disk.

A committed snapshot is immutable and named; an active one is being written. Both kinds live in one
folder each, `<root>/<name>/`, that holds the tree's own layer and the name of its parent, so that a
rename commits and no database is needed to mount. A stack is a committed snapshot without a layer
of its own: a list of layers of others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import field
from enum import Enum
from pathlib import Path
from typing import Protocol

from torana.core.records import dataclass


class ChangeKind(Enum):
    """How a path differs from the tree below."""

    ADD = "add"
    MODIFY = "modify"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference; `path` is relative bytes (names need not be UTF-8), `/`-separated.

    `source` is the file that holds the new state, None for deletions. Order is that of a layer tar:
    lexical per directory, parents first; an unchanged parent of a change is not listed.
    """

    kind: ChangeKind
    path: bytes
    source: bytes | None
    # What lstat gave for the source, where it was looked at.
    status: os.stat_result | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class LayerOf:
    """What snapshot `upper` changes in snapshot `lower`, each None for an empty tree.

    A layer can be put on any tree. That gives what a runtime gets by unpacking it there:
    directories unite, anything else replaces what was there, deletions delete, and the directories
    on the way to a change come along with their metadata.
    """

    upper: str | None
    lower: str | None
    # Who compared the two; a snapshot's own layer is described by the snapshot's record.
    description: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Usage:
    """Space of a snapshot's own layer, parents excluded."""

    size_bytes: int
    inodes: int


class Snapshotter(Protocol):
    """Makes, mounts, compares and removes snapshots. Calls block: use them from the worker pool.

    Conformance: `torana.core.testing.snapshotters.SnapshotterSuite`.
    """

    name: str  # "overlay", "fuse-overlayfs" or "native"

    def prepare(self, key: str, parent: str | None) -> None:
        """Begin an active snapshot on top of the committed `parent` (None: an empty 0755 root).

        Raises:
            NotFoundError: no such parent.
            ConflictError: `key` exists.
        """
        ...

    def mount(self, key: str, *, readonly: bool) -> AbstractContextManager[Path]:
        """Show the whole tree of an active or committed snapshot at a directory while entered.

        A committed snapshot can only be mounted read-only; with `readonly` a write fails at least
        where the kernel can see to it (overlay). Any number may be mounted at once.
        """
        ...

    def directories(self, name: str) -> Sequence[str]:
        """Give the directories that a snapshot's tree is laid together from, top first.

        They are to be read only: whiteouts and opaque directories are as overlayfs has them; who
        has others gives just the top one, with the snapshot's own files.
        """
        ...

    def commit(self, key: str, name: str) -> None:
        """Turn active `key` into committed `name`, atomically.

        Raises:
            ConflictError: `name` exists; the active snapshot stays.
        """
        ...

    def stack(self, name: str, layers: Sequence[LayerOf]) -> None:
        """Make the committed snapshot `name` from layers put on each other, base first.

        Costs next to nothing: their snapshots are looked at when `name` is mounted first or gets a
        child, and have to stay as long as `name` does. No data is copied, ever.

        Raises:
            ConflictError: `name` exists.
        """
        ...

    def layers(self, name: str) -> tuple[LayerOf, ...]:
        """Give the layers of a committed snapshot, base first.

        Raises:
            NotFoundError: there is no such snapshot.
        """
        ...

    def changes(self, name: str | None, parent: str | None) -> Iterator[Change]:
        """Give what `name` differs in from `parent`, which need not be its direct parent.

        None is an empty tree.
        """
        ...

    def exists(self, name: str) -> bool: ...

    def parent(self, name: str) -> str | None: ...

    def names(self) -> Iterator[str]:
        """Give all committed snapshots."""
        ...

    def usage(self, name: str) -> Usage:
        """Add up what `name` holds itself; what it shares with others by links is theirs."""
        ...

    def remove(self, name: str) -> None:
        """Remove an active or committed snapshot that is not a parent; missing is no error.

        It vanishes at once (rename) and is deleted from disk by `sweep`.
        """
        ...

    def sweep(self, *, pause_s: float = 0.0) -> None:
        """Delete from disk what was removed, and active snapshots of dead processes.

        Sleeps `pause_s` after some hundreds of files, for deletions in the background.
        """
        ...

    def close(self) -> None:
        """Remove what only this process used; nothing may be mounted any more."""
        ...
