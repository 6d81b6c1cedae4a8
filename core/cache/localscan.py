"""`LocalScan`: digests of a client's folder, as far as it is sent, with a file index.

Every entry is looked at once per build; one that the index knows is not read.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Sequence

from torana.core.cache.digesttree import join, parent
from torana.core.cache.fileindex import FileIndex, Signature, signature
from torana.core.cache.scannedtree import ScannedTree
from torana.core.cache.treefilter import TreeFilter
from torana.core.oci.digest import Digest


class LocalScan(ScannedTree):
    """The folder at `root` through `sent`.

    `seen` has the signature of every file that was hashed, or found in the index.
    """

    def __init__(
        self, root: bytes, *, sent: TreeFilter | None = None, index: FileIndex | None = None
    ) -> None:
        super().__init__(root, is_local=True)
        self.sent = sent or TreeFilter()
        self._index = index
        self._listings: dict[bytes, dict[bytes, os.stat_result]] = {}
        self._listed_ns: dict[bytes, int] = {}  # just before a directory was listed
        self._looked_ns: dict[bytes, int] = {}  # just before a single entry was looked at
        self._statuses: dict[bytes, os.stat_result] = {}
        self._holds: dict[bytes, bool] = {}
        self.seen: dict[bytes, Signature] = {}

    # What is sent

    def shows(self, path: bytes) -> bool:
        """Say whether a path that exists is sent."""
        is_sent, may_hold = self.sent.verdict(path)
        return is_sent or (may_hold and self._holds_any(path))

    def _holds_any(self, folder: bytes) -> bool:
        """Say whether anything in a directory, however deep, is sent."""
        found = self._holds.get(folder)
        if found is None:
            found = self._holds[folder] = self._search(folder)
        return found

    def _search(self, folder: bytes) -> bool:
        pending = [folder]
        while pending:
            here = pending.pop()
            status = self._look(here)
            if status is None or not stat.S_ISDIR(status.st_mode):
                continue
            for name, below in self._listing(here).items():
                path = join(here, name)
                is_sent, may_hold = self.sent.verdict(path)
                if is_sent:
                    return True
                if may_hold and stat.S_ISDIR(below.st_mode):
                    pending.append(path)
        return False

    def entries(self) -> Iterator[tuple[bytes, os.stat_result]]:
        """Give all that is sent with its status, depth first with names in byte order."""
        pending = [join(b"", name) for name in reversed(self.names(b""))]
        while pending:
            path = pending.pop()
            status = self._last_look(path)
            yield path, status
            if stat.S_ISDIR(status.st_mode):
                pending += [join(path, name) for name in reversed(self.names(path))]

    def known_files(self, folder: bytes) -> dict[bytes, tuple[str, os.stat_result]]:
        """Give digest and status of the regular files in a directory that were hashed.

        Files with several links are left out.
        """
        listing = self._listing(folder)
        found = {}
        for name in self.names(folder):
            status = listing[name]
            digest = self._entries.get(join(folder, name))
            if digest is not None and stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
                found[name] = (str(digest), status)
        return found

    def hidden(self, folder: bytes) -> set[bytes]:
        """Give the names in a directory that are not sent."""
        return self._listing(folder).keys() - set(self.names(folder))

    # Looking at the disk, once

    def _look(self, path: bytes) -> os.stat_result | None:
        above = parent(path)
        if path and above in self._listings:
            return self._listings[above].get(path[path.rfind(b"/") + 1 :])
        if path not in self._statuses:
            self._looked_ns.setdefault(path, time.time_ns())
            status = super().status(path)
            if status is None:
                return None
            self._statuses[path] = status
        return self._statuses[path]

    def _listing(self, folder: bytes) -> dict[bytes, os.stat_result]:
        found = self._listings.get(folder)
        if found is None:
            self._listed_ns[folder] = time.time_ns()
            with os.scandir(self.full(folder)) as entries:
                found = {entry.name: entry.stat(follow_symlinks=False) for entry in entries}
            self._listings[folder] = found
        return found

    def status(self, path: bytes) -> os.stat_result | None:
        status = self._look(path)
        return status if status is not None and self.shows(path) else None

    def _find_names(self, folder: bytes) -> list[bytes]:
        listing = self._listing(folder)
        names = sorted(listing)
        if not self.sent.is_open:
            names = [name for name in names if self._shows_in(folder, name, listing[name])]
        for name in names:
            self._modes[join(folder, name)] = listing[name].st_mode
        self._take_known(folder, names)
        return names

    def _shows_in(self, folder: bytes, name: bytes, status: os.stat_result) -> bool:
        path = join(folder, name)
        is_sent, may_hold = self.sent.verdict(path)
        return is_sent or (may_hold and stat.S_ISDIR(status.st_mode) and self._holds_any(path))

    # Digests

    def _take_known(self, folder: bytes, names: Sequence[bytes]) -> None:
        """Take the digests of unchanged entries of a directory from the index."""
        if self._index is None:
            return
        listing = self._listing(folder)
        self._index.keep_only(folder, listing)
        known = self._index.folder(folder)
        for name in names if known else ():
            found = known.get(name)
            if found is not None and found[0] == signature(listing[name]):
                path = join(folder, name)
                self._entries[path] = Digest(found[1])
                self._see(path, listing[name], found[0])

    def _known_entry(self, path: bytes) -> Digest | None:
        if self._index is None:
            return None
        found = self._index.folder(parent(path)).get(path[path.rfind(b"/") + 1 :])
        if found is None or found[0] != signature(self._last_look(path)):
            return None
        self._see(path, self._last_look(path), found[0])
        return Digest(found[1])

    def _last_look(self, path: bytes) -> os.stat_result:
        status = self._look(path)
        assert status is not None, "only entries that exist are digested"
        return status

    def _learn(self, path: bytes, digest: Digest) -> Digest:
        status = self._last_look(path)
        self._see(path, status, signature(status))
        if self._index is not None:
            folder, name = parent(path), path[path.rfind(b"/") + 1 :]
            looked_ns = self._listed_ns.get(folder) or self._looked_ns[path]
            self._index.note(folder, name, status, digest, looked_ns)
        return digest

    def _see(self, path: bytes, status: os.stat_result, look: Signature) -> None:
        if stat.S_ISREG(status.st_mode):
            self.seen[path] = look

    def save(self) -> None:
        """Leave what was learnt in the index."""
        if self._index is not None:
            self._index.save()
