"""`Reuse`: a copy of a client's folder that takes unchanged files from the copy before it.

A file is taken if its digest is the one that the earlier copy had, and if what was made of it then
looks as it is to look now: size, mode, owner and time. It is linked into the new snapshot's own
layer once nothing is mounted from that any more. Only files of directories that this copy has made
are considered, so that nothing can be in their way.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Final, NamedTuple

from torana.core.cache.copies import EarlierCopy
from torana.core.ops.file.owner import Owner
from torana.core.records import dataclass
from torana.core.snapshots.copytree import copy_metadata, make_node

_MAX_LINKS: Final = 30_000  # far from what ext4 allows
_UNLINKABLE: Final = (errno.EMLINK, errno.EXDEV, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP)
_FOLDER: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

KnownFiles = Callable[[bytes], Mapping[bytes, tuple[str, os.stat_result]]]
"""Gives digest and status of the regular files in a directory of the source, by name."""


class Look(NamedTuple):
    """How a copied file is to look."""

    mode: int
    owner: Owner
    mtime_ns: int


@dataclass(slots=True)
class _Folder:
    """A directory that files are linked into; times are set again afterwards."""

    names: list[bytes]
    times: tuple[int, int] | None = None


@dataclass(slots=True)
class Reuse:
    """One copy: plans which files to take while it runs, and links them at the end."""

    known: KnownFiles
    earlier: EarlierCopy | None = None
    copied: dict[bytes, dict[bytes, str]] = field(default_factory=dict)
    taken: set[bytes] = field(default_factory=set)  # paths in the source, without leading slashes
    _folders: dict[bytes, _Folder] = field(default_factory=dict)

    def plan(
        self, source: bytes, target: bytes, look: Callable[[os.stat_result], Look]
    ) -> frozenset[bytes]:
        """Note the files of directory `source` that are copied to the new directory `target`.

        Gives the names that need not be copied. Paths are absolute in their trees.
        """
        known = self.known(source.strip(b"/"))
        if not known:
            return frozenset()
        self.copied[target] = {name: digest for name, (digest, _) in known.items()}
        before = None if self.earlier is None else self.earlier.files.get(target)
        if not before:
            return frozenset()
        assert self.earlier is not None
        same = [name for name, (digest, _) in known.items() if before.get(name) == digest]
        taken = _looking_right(self.earlier.layer + target, same, known, look)
        if taken:
            self._folders[target] = _Folder(taken)
            above = source.strip(b"/") + b"/" if source.strip(b"/") else b""
            self.taken.update([above + name for name in taken])
        return frozenset(taken)

    def finish(self, target: bytes, times: tuple[int, int]) -> None:
        """Note the times that a directory was given."""
        if target in self._folders:
            self._folders[target].times = times

    def link(self, layer: bytes) -> None:
        """Link what was planned into a layer that is not mounted. Blocks."""
        if self.earlier is None:
            return
        for target, folder in self._folders.items():
            _link_all(self.earlier.layer + target, layer + target, folder.names)
            if folder.times is not None:
                os.utime(layer + target, ns=folder.times)


def _looking_right(
    folder: bytes,
    names: list[bytes],
    known: Mapping[bytes, tuple[str, os.stat_result]],
    look: Callable[[os.stat_result], Look],
) -> list[bytes]:
    """Give those of `names` whose earlier copies are there and look as they should."""
    try:
        opened = os.open(folder, _FOLDER)
    except OSError:
        return []
    found = []
    try:
        for name in names:
            try:
                made = os.lstat(name, dir_fd=opened)
            except OSError:
                continue
            source = known[name][1]
            wanted = look(source)
            if (
                made.st_mode == stat.S_IFREG | wanted.mode
                and made.st_size == source.st_size
                and made.st_mtime_ns == wanted.mtime_ns
                and (made.st_uid, made.st_gid) == wanted.owner
                and made.st_nlink < _MAX_LINKS
            ):
                found.append(name)
    finally:
        os.close(opened)
    return found


def _link_all(source: bytes, target: bytes, names: list[bytes]) -> None:
    below = os.open(source, _FOLDER)
    try:
        into = os.open(target, _FOLDER)
        try:
            for name in names:
                try:
                    os.link(name, name, src_dir_fd=below, dst_dir_fd=into, follow_symlinks=False)
                except OSError as err:
                    if err.errno not in _UNLINKABLE:
                        raise
                    _copy(source + b"/" + name, target + b"/" + name)
        finally:
            os.close(into)
    finally:
        os.close(below)


def _copy(source: bytes, target: bytes) -> None:
    status = os.lstat(source)
    make_node(target, status, source)
    copy_metadata(source, target, status)
