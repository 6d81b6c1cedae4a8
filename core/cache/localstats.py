"""`LocalStats`: a folder of the client of which only stats are taken, and chosen files.

Spec: reference of sources, section 7 (`local.metadatatransfer`).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from torana.core.cache.checksum import content_digest
from torana.core.cache.local import LocalSelection, LocalTree
from torana.core.cache.localview import copy_sent
from torana.core.cache.metadatafile import METADATA_NAME, metadata_list
from torana.core.cache.ref import Selector
from torana.core.cache.scannedtree import ScannedTree
from torana.core.oci.digest import Digest
from torana.core.patterns import PatternMatcher
from torana.core.snapshots.copytree import copy_tree

if TYPE_CHECKING:
    from torana.core.cache.manager import CacheManager


class LocalStats(LocalTree):
    """A tree of `.fsutil-metadata`, the list of all stats, and of files that match `contents`."""

    def __init__(
        self,
        folder: Path,
        *,
        manager: CacheManager,
        selection: LocalSelection | None = None,
        contents: Sequence[str] = (),
    ) -> None:
        super().__init__(folder, manager=manager, selection=selection)
        self._contents = PatternMatcher(contents)

    @cached_property
    def _tree(self) -> Path:
        made = self._manager.views / secrets.token_hex(8)
        made.mkdir(parents=True)
        chosen = {
            path for path, _ in self.scan.entries() if self._contents.matches(os.fsdecode(path))
        }
        chosen.discard(METADATA_NAME)
        copy_sent(self.scan, os.fsencode(made), only=chosen)
        (made / os.fsdecode(METADATA_NAME)).write_bytes(metadata_list(self.scan))
        return made

    @contextmanager
    def mount(self) -> Iterator[Path]:
        with self._lock:
            path = self._tree
        yield path

    def _digest(self, selectors: Sequence[Selector]) -> Digest:
        with self._lock:
            return content_digest(ScannedTree(os.fsencode(self._tree), is_local=True), selectors)

    def _fill(self, target: bytes) -> None:
        with self._lock:
            copy_tree(os.fsencode(self._tree), target)
