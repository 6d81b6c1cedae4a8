"""`ScannedTree`: digests of a tree on disk, looked at as far as they are asked for.

What was learnt is kept: modes, listings, link texts and digests. `dump` and `restore` carry it from
one process to the next.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from torana.core.cache.digesttree import NOTHING, DigestTree, join, parent
from torana.core.cache.entrydigest import digest_on_disk
from torana.core.oci.digest import Digest
from torana.core.pool import worker_count

_BIG: Final = 256 << 10  # bytes: files from here on gain by threads, smaller ones lose


class ScannedTree(DigestTree):
    """The tree at `root` on disk.

    `is_local` marks a folder of the client: owners count as 0:0 and the root has no header.
    """

    def __init__(self, root: bytes, *, is_local: bool = False) -> None:
        super().__init__()
        self.root = root
        self.is_local = is_local
        self._modes: dict[bytes, int | None] = {}
        self._names: dict[bytes, list[bytes]] = {}
        self._entries: dict[bytes, Digest] = {b"": NOTHING} if is_local else {}
        self._targets: dict[bytes, bytes] = {}

    def full(self, path: bytes) -> bytes:
        return self.root + b"/" + path if path else self.root

    # DigestTree

    def mode(self, path: bytes) -> int | None:
        found = self._modes.get(path, 0)
        if found == 0:
            found = self._modes[path] = self._find_mode(path)
        return found

    def names(self, folder: bytes) -> Sequence[bytes]:
        found = self._names.get(folder)
        if found is None:
            found = self._names[folder] = self._find_names(folder)
        return found

    def entry(self, path: bytes) -> Digest:
        found = self._entries.get(path)
        if found is None:
            found = self._entries[path] = self._find_entry(path)
        return found

    def target(self, path: bytes) -> bytes:
        found = self._targets.get(path)
        if found is None:
            found = self._targets[path] = self._find_target(path)
        return found

    # What is known without reading

    def known_entries(self) -> list[tuple[bytes, Digest]]:
        """Give the entries that were looked at, with the digests of each alone."""
        return [(path, digest) for path, digest in self._entries.items() if path]

    def known_mode(self, path: bytes) -> int | None:
        return self._modes.get(path)

    def known_names(self, folder: bytes) -> list[bytes] | None:
        return self._names.get(folder)

    def known_entry(self, path: bytes) -> Digest | None:
        return self._entries.get(path)

    def known_target(self, path: bytes) -> bytes | None:
        return self._targets.get(path)

    def known_whole(self, path: bytes) -> Digest | None:
        return self._recursive.get(path)

    # Looking at the disk

    def status(self, path: bytes) -> os.stat_result | None:
        """Look at an entry, None where it is missing."""
        try:
            return os.lstat(self.full(path))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _find_mode(self, path: bytes) -> int | None:
        if path and parent(path) in self._names:
            return None  # all that is there is known
        status = self.status(path)
        return None if status is None else status.st_mode

    def _find_names(self, folder: bytes) -> list[bytes]:
        found = []
        with os.scandir(self.full(folder)) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                found.append(name)
                self._modes[join(folder, name)] = entry.stat(follow_symlinks=False).st_mode
        found.sort()
        return found

    def _find_target(self, path: bytes) -> bytes:
        return os.readlink(self.full(path))

    def _find_entry(self, path: bytes) -> Digest:
        return self._known_entry(path) or self._learn(path, self._hash(path))

    def _known_entry(self, path: bytes) -> Digest | None:
        """Give a digest that is known without reading."""
        return None

    def _hash(self, path: bytes) -> Digest:
        """Read and hash an entry; touches nothing of this object that changes."""
        return digest_on_disk(self.full(path), self._last_look(path), is_local=self.is_local)

    def _last_look(self, path: bytes) -> os.stat_result:
        return os.lstat(self.full(path))

    def _learn(self, path: bytes, digest: Digest) -> Digest:
        """Take note of what was just hashed."""
        return digest

    def _prepare(self, folders: Sequence[bytes]) -> None:
        """Hash big files side by side: reading and hashing them leaves the interpreter alone."""
        missing = list(self._big_files(folders))
        if len(missing) < 2:
            return
        with ThreadPoolExecutor(min(worker_count(), len(missing))) as pool:
            for path, digest in zip(missing, pool.map(self._hash, missing), strict=True):
                self._entries[path] = self._learn(path, digest)

    def _big_files(self, folders: Iterable[bytes]) -> Iterable[bytes]:
        for folder in folders:
            for name in self.names(folder):
                path = join(folder, name)
                if path in self._entries or not stat.S_ISREG(self.mode(path) or 0):
                    continue
                if self._last_look(path).st_size >= _BIG and self._known_entry(path) is None:
                    yield path

    # Keeping

    def dump(self) -> list[Any]:
        """Give what is known, for `restore`: a row per path, sorted."""
        rows = []
        for path in sorted(self._modes):
            mode = self._modes[path]
            if mode is not None:
                rows.append(
                    [
                        path,
                        mode,
                        self._entries.get(path),
                        self._recursive.get(path),
                        self._targets.get(path),
                        path in self._names,
                    ]
                )
        return rows

    def restore(self, rows: Iterable[Sequence[Any]]) -> None:
        """Take over what `dump` gave for a tree that is the same."""
        for path, mode, entry, recursive, target, is_listed in rows:
            self._modes[path] = mode
            if entry is not None:
                self._entries[path] = Digest(entry)
            if recursive is not None:
                self._recursive[path] = Digest(recursive)
            if target is not None:
                self._targets[path] = target
            if is_listed:
                self._names[path] = []
        for path, *_ in rows:
            above = self._names.get(parent(path))
            if path and above is not None:
                above.append(path[path.rfind(b"/") + 1 :])
        for names in self._names.values():
            names.sort()
