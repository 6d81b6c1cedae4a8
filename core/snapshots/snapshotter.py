"""The `Snapshotter` protocol: layered trees on disk.

A committed snapshot is immutable and named; an active one is being written. Both kinds live in one
folder each, `<root>/<name>/`, that holds the tree's own layer and the name of its parent, so that a
rename commits and no database is needed to mount.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol


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


@dataclass(frozen=True, slots=True)
class Usage:
    """Space of a snapshot's own layer, parents excluded."""

    size_bytes: int
    inodes: int


class Snapshotter(Protocol):
    """Makes, mounts, compares and removes snapshots. Calls block: use them from the worker pool.

    Conformance: `torana.core.testing.snapshotters.SnapshotterSuite`.
    """

    name: str  # "overlay" or "native"

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

    def commit(self, key: str, name: str) -> None:
        """Turn active `key` into committed `name`, atomically.

        Raises:
            ConflictError: `name` exists; the active snapshot stays.
        """
        ...

    def changes(self, name: str, parent: str | None) -> Iterator[Change]:
        """Give what `name` differs in from `parent`, which need not be its direct parent."""
        ...

    def exists(self, name: str) -> bool: ...

    def parent(self, name: str) -> str | None: ...

    def names(self) -> Iterator[str]:
        """Give all committed snapshots."""
        ...

    def usage(self, name: str) -> Usage: ...

    def remove(self, name: str) -> None:
        """Remove an active or committed snapshot that is not a parent; missing is no error.

        It vanishes at once (rename) and is deleted from disk by `sweep`.
        """
        ...

    def sweep(self) -> None:
        """Delete from disk what was removed, and active snapshots of dead processes."""
        ...
