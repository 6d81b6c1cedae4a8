"""`DigestTree`: what content digests are computed from, whatever a tree is kept in.

Paths are bytes without a leading slash; `b""` is the root. Links are resolved inside the tree, and
nothing but `resolve` follows them.

Spec: contenthash reference, sections 2 to 4.
"""

from __future__ import annotations

import hashlib
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

from torana.core.errors import NotFoundError
from torana.core.oci.digest import Digest
from torana.core.snapshots.rootfs import resolve_links

NOTHING: Final = Digest.of(b"")


def join(folder: bytes, name: bytes) -> bytes:
    """Give the path of an entry."""
    return folder + b"/" + name if folder else name


def parent(path: bytes) -> bytes:
    """Give the folder that a path is in; the root's is the root."""
    return path[: max(path.rfind(b"/"), 0)]


class DigestTree(ABC):
    """A tree with digests. Not to be used by two threads at once."""

    def __init__(self) -> None:
        self._recursive: dict[bytes, Digest] = {}

    @abstractmethod
    def mode(self, path: bytes) -> int | None:
        """Give type and permission bits of an entry, None where there is none."""

    @abstractmethod
    def names(self, folder: bytes) -> Sequence[bytes]:
        """Give the names in a directory in byte order."""

    @abstractmethod
    def entry(self, path: bytes) -> Digest:
        """Digest one entry that exists: a directory's own metadata, without what it holds."""

    @abstractmethod
    def target(self, path: bytes) -> bytes:
        """Give the text of a link."""

    def is_folder(self, path: bytes) -> bool:
        return stat.S_ISDIR(self.mode(path) or 0)

    def is_link(self, path: bytes) -> bool:
        return stat.S_ISLNK(self.mode(path) or 0)

    def resolve(self, path: bytes, *, follow_last: bool) -> bytes:
        """Resolve links, confined to the root; missing components stay.

        Raises:
            NotFoundError: too many links.
        """

        def read(parts: list[bytes]) -> bytes | None:
            here = b"/".join(parts)
            return self.target(here) if self.is_link(here) else None

        try:
            return b"/".join(resolve_links(path, read, follow_last=follow_last))
        except OSError as err:
            raise NotFoundError(f'"/{os.fsdecode(path)}": too many links') from err

    def plain(self, path: bytes, *, follow: bool) -> Digest:
        """Digest a path with all below it.

        Raises:
            NotFoundError: it does not exist, or is a dangling link that is followed.
        """
        found = self.resolve(path, follow_last=follow)
        if self.mode(found) is None:
            raise NotFoundError(f'"/{os.fsdecode(path)}": not found')
        return self.recursive(found)

    def recursive(self, path: bytes) -> Digest:
        """Digest an existing entry with all below it.

        Children come first, by a stack: trees may be deeper than our recursion.
        """
        found = self._whole(path)
        if found is not None:
            return found
        folders: list[bytes] = []
        pending = [path]
        while pending:
            here = pending.pop()
            if self._whole(here) is None and self.is_folder(here):
                folders.append(here)
                pending += [join(here, name) for name in self._subfolders(here)]
        self._prepare(folders)
        for folder in reversed(folders):
            digest = hashlib.sha256(b"\0" + self.entry(folder).encode())
            for name in self.names(folder):
                child = join(folder, name)
                below = self._whole(child) or self.entry(child)
                digest.update(b"\0" + name + below.encode())
            self._recursive[folder] = Digest("sha256:" + digest.hexdigest())
        return self._recursive.get(path) or self.entry(path)

    def _whole(self, path: bytes) -> Digest | None:
        """Give the recursive digest of a directory where it is known."""
        return self._recursive.get(path)

    def _subfolders(self, folder: bytes) -> Sequence[bytes]:
        return [name for name in self.names(folder) if self.is_folder(join(folder, name))]

    def _prepare(self, folders: Sequence[bytes]) -> None:
        """Get ready for the entries of `folders`, which are about to be asked for."""
        return
