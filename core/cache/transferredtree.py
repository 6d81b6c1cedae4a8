"""`TransferredTree`: digests of a tree that is announced entry by entry, as a client sends it.

A change costs the digests of the directories above it; all others stay.

Spec: contenthash reference, sections 1, 3 and 6.
"""

from __future__ import annotations

import bisect
import stat
from collections.abc import Sequence

from torana.core.cache.digesttree import NOTHING, DigestTree, join, parent
from torana.core.oci.digest import Digest


class TransferredTree(DigestTree):
    """Entries by path. The root is never announced: its header is the digest of nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._modes: dict[bytes, int] = {b"": stat.S_IFDIR | 0o755}
        self._entries: dict[bytes, Digest] = {b"": NOTHING}
        self._targets: dict[bytes, bytes] = {}
        self._children: dict[bytes, list[bytes]] = {b"": []}

    def put(self, path: bytes, mode: int, entry: Digest, *, target: bytes = b"") -> None:
        """Add or replace an entry; its directory comes first. `target` is a link's text.

        What lies below a directory stays if a directory takes its place, else it goes.
        """
        if path and path in self._modes and not stat.S_ISDIR(mode):
            self.remove(path)
        if path and path not in self._modes:
            bisect.insort(self._children[parent(path)], path[path.rfind(b"/") + 1 :])
        self._modes[path] = mode
        self._entries[path] = entry
        if stat.S_ISLNK(mode):
            self._targets[path] = target
        if stat.S_ISDIR(mode):
            self._children.setdefault(path, [])
        self._forget(path)

    def put_hard_link(self, path: bytes, first: bytes) -> None:
        """Add another name of an entry, with its digest."""
        self.put(path, self._modes[first], self._entries[first])

    def remove(self, path: bytes) -> None:
        """Remove an entry with all below it; a missing one is no error."""
        if path not in self._modes:
            return
        self._children[parent(path)].remove(path[path.rfind(b"/") + 1 :])
        pending = [path]
        while pending:
            here = pending.pop()
            pending += [join(here, name) for name in self._children.pop(here, ())]
            del self._modes[here], self._entries[here]
            self._targets.pop(here, None)
            self._recursive.pop(here, None)
        self._forget(path)

    def _forget(self, path: bytes) -> None:
        """Drop the digests of a path and of the directories above it."""
        self._recursive.pop(path, None)
        while path:
            path = parent(path)
            self._recursive.pop(path, None)

    # DigestTree

    def mode(self, path: bytes) -> int | None:
        return self._modes.get(path)

    def names(self, folder: bytes) -> Sequence[bytes]:
        return self._children[folder]

    def entry(self, path: bytes) -> Digest:
        return self._entries[path]

    def target(self, path: bytes) -> bytes:
        return self._targets[path]
