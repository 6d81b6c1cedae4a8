"""`SnapshotTree`: digests of a committed snapshot, with what is known of one below it.

A snapshot differs from its parent in what its own layer holds; all else has the digests of the
parent. So a changed file costs its own hash and those of the directories above it, not the tree.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from torana.core.cache.checksum import content_digest
from torana.core.cache.layerpaths import LayerPaths
from torana.core.cache.ref import Selector
from torana.core.cache.scannedtree import ScannedTree
from torana.core.oci.digest import Digest

T = TypeVar("T")
Show = Callable[[], AbstractContextManager[Path]]
"""Shows the tree of a snapshot at a folder while entered."""


class SnapshotTree(ScannedTree):
    """The tree of one snapshot.

    `below` is that of a snapshot further down the chain, and `layers` are those on top of it. The
    snapshot is only shown where something must be read.
    """

    def __init__(
        self, show: Show, *, below: SnapshotTree | None = None, layers: Sequence[LayerPaths] = ()
    ) -> None:
        super().__init__(b"")
        self._show = show
        self._below = below
        self._layers = layers
        self._lock = threading.Lock()
        self._mounted: ExitStack | None = None

    def digest(self, selectors: Sequence[Selector]) -> tuple[Digest, bool]:
        """Give the content digest, and whether something new was learnt on the way. Blocks.

        Raises:
            NotFoundError: a plain or required path is missing.
        """
        with self._lock:
            before = self._known_count()
            with self._showing():
                digest = content_digest(self, selectors)
            return digest, self._known_count() != before

    def _known_count(self) -> int:
        return len(self._modes) + len(self._names) + len(self._entries) + len(self._recursive)

    @contextmanager
    def _showing(self) -> Iterator[None]:
        with ExitStack() as stack:
            self._mounted = stack
            try:
                yield
            finally:
                self._mounted, self.root = None, b""

    def full(self, path: bytes) -> bytes:
        if not self.root:
            assert self._mounted is not None, "the tree is read inside `digest` only"
            self.root = os.fsencode(self._mounted.enter_context(self._show()))
        return super().full(path)

    # What is known of the snapshot below. It is only read here, and what it knows never changes.

    def known(self, path: bytes, look: Callable[[ScannedTree], T | None]) -> T | None:
        """Give what this tree or one below knows without reading."""
        found = look(self)
        return self._inherited(path, look) if found is None else found

    def _inherited(self, path: bytes, look: Callable[[ScannedTree], T | None]) -> T | None:
        if self._below is None or not all(layer.leaves_alone(path) for layer in self._layers):
            return None
        return self._below.known(path, look)

    def _find_mode(self, path: bytes) -> int | None:
        found = self._inherited(path, lambda tree: tree.known_mode(path))
        return super()._find_mode(path) if found is None else found

    def _find_names(self, folder: bytes) -> list[bytes]:
        found = self._inherited(folder, lambda tree: tree.known_names(folder))
        return super()._find_names(folder) if found is None else found

    def _find_target(self, path: bytes) -> bytes:
        found = self._inherited(path, lambda tree: tree.known_target(path))
        return super()._find_target(path) if found is None else found

    def _known_entry(self, path: bytes) -> Digest | None:
        return self._inherited(path, lambda tree: tree.known_entry(path))

    def _whole(self, path: bytes) -> Digest | None:
        found = super()._whole(path)
        if found is None:
            found = self._inherited(path, lambda tree: tree.known_whole(path))
        return found
