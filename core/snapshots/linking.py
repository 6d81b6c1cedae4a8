"""Layers written by hard links: their changes put on a tree without copying a byte.

What is linked must never be written in place. Nothing does: files of committed snapshots change
only by copy, and here only directories get new metadata.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable
from typing import Final

from torana.core.snapshots.copytree import copy_metadata, make_node
from torana.core.snapshots.removal import remove_entry
from torana.core.snapshots.snapshotter import Change, ChangeKind

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LINK: Final = (errno.EXDEV, errno.EMLINK, errno.EPERM)


class LinkedLayer:
    """Puts changes of the tree `source` on the tree `root`.

    All directories on the way are checked or made first, so that no link is ever followed.

    Args:
        locate: gives the file to link for a change; in an overlay mount files cannot be linked.
        keeps_whiteouts: leave deletions as whiteouts of overlayfs, to be applied by a mount.
    """

    def __init__(
        self,
        root: bytes,
        source: bytes | None,
        *,
        locate: Callable[[Change], bytes],
        keeps_whiteouts: bool = False,
    ) -> None:
        self._root = root
        self._source = source
        self._locate = locate
        self._keeps_whiteouts = keeps_whiteouts
        self._folders: dict[bytes, os.stat_result | None] = {}
        self._copies: dict[tuple[int, int], bytes] = {}
        self.with_whiteouts: set[bytes] = set()  # directories that have them

    def apply(self, changes: Iterable[Change]) -> None:
        for change in changes:
            self._parents(change.path)
            if change.kind is ChangeKind.DELETE:
                self._delete(change.path)
            else:
                self._put(change)
        # A directory's time changes with its content, so directories come last, inner ones first.
        for path in sorted(self._folders, reverse=True):
            status = self._folders[path]
            if status is not None and self._source is not None:
                copy_metadata(self._source + b"/" + path, self._root + b"/" + path, status)

    def _parents(self, path: bytes) -> None:
        position = path.find(b"/")
        while position >= 0:
            parent = path[:position]
            if parent not in self._folders:
                status = None if self._source is None else os.lstat(self._source + b"/" + parent)
                self._put_folder(parent, status)
            position = path.find(b"/", position + 1)

    def _delete(self, path: bytes) -> None:
        if self._keeps_whiteouts:
            os.mknod(self._root + b"/" + path, stat.S_IFCHR | 0o600, 0)
            self.with_whiteouts.add(path.rpartition(b"/")[0])
        else:
            self._clear(path)

    def _put(self, change: Change) -> None:
        source = self._locate(change)
        status = os.lstat(source)
        if stat.S_ISDIR(status.st_mode):
            self._put_folder(change.path, status)
            return
        made = self._root + b"/" + change.path
        try:
            self._link(source, status, made)
        except FileExistsError:
            self._clear(change.path)
            self._link(source, status, made)

    def _link(self, source: bytes, status: os.stat_result, made: bytes) -> None:
        try:
            os.link(source, made, follow_symlinks=False)
            return
        except OSError as err:
            if err.errno not in _NO_LINK:
                raise
        known = self._copies.setdefault((status.st_dev, status.st_ino), made)
        if known != made:
            os.link(known, made, follow_symlinks=False)
            return
        make_node(made, status, source)
        copy_metadata(source, made, status)

    def _put_folder(self, path: bytes, status: os.stat_result | None) -> None:
        self._folders[path] = status
        made = self._root + b"/" + path
        try:
            os.mkdir(made, 0o755)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(made).st_mode):
                os.unlink(made)
                os.mkdir(made, 0o755)

    def _clear(self, path: bytes) -> None:
        above, _, name = (self._root + b"/" + path).rpartition(b"/")
        folder = os.open(above, _FOLDER)
        try:
            remove_entry(folder, name)
        except FileNotFoundError:
            return
        finally:
            os.close(folder)
