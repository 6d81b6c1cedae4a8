"""Views of a client's folder that show only what is sent."""

from __future__ import annotations

import os
import secrets
import stat
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from torana.core.cache.digesttree import join, parent
from torana.core.cache.localscan import LocalScan
from torana.core.snapshots import mounts
from torana.core.snapshots.copytree import copy_file, copy_xattrs

if TYPE_CHECKING:
    from torana.core.cache.manager import CacheManager


_FEW: Final = 16  # entries
_SMALL: Final = 1 << 20  # bytes


class LocalView:
    """A folder that shows only what is sent: an overlay whose upper layer hides the rest.

    Where overlays do not work it is a copy, and where little is sent, such as a build file alone.
    Links into the client's folder would be cheaper, but would change the change times of the
    client's files.
    """

    def __init__(self, scan: LocalScan, manager: CacheManager) -> None:
        self._scan = scan
        self._manager = manager
        self._lock = threading.Lock()
        self._path: Path | None = None

    def path(self) -> Path:
        """Give the folder, made on first use; it goes with the build."""
        with self._lock:
            if self._path is None:
                self._path = self._make()
            return self._path

    def _make(self) -> Path:
        base = self._manager.views / secrets.token_hex(8)
        if _is_little(self._scan):
            base.mkdir(parents=True)
            copy_sent(self._scan, os.fsencode(base))
            return base
        for name in ("merged", "upper", "work"):
            (base / name).mkdir(parents=True)
        merged = base / "merged"
        try:
            hide_unsent(self._scan, os.fsencode(base / "upper"))
            mounts.mount_overlay(
                str(merged),
                [os.fsdecode(self._scan.root)],
                upper=str(base / "upper"),
                work=str(base / "work"),
                options=self._manager.overlay_options,
            )
            self._manager.view_mounts.append(str(merged))
        except OSError:
            copy_sent(self._scan, os.fsencode(merged))
        return merged


def _is_little(scan: LocalScan) -> bool:
    """Say whether copying what is sent costs less than hiding the rest."""
    size = 0
    for count, (_, status) in enumerate(scan.entries(), start=1):
        size += status.st_size if stat.S_ISREG(status.st_mode) else 0
        if count > _FEW or size > _SMALL:
            return False
    return True


def hide_unsent(scan: LocalScan, upper: bytes) -> None:
    """Put a whiteout into `upper` for each path that is not sent, its folders along with it."""
    made: set[bytes] = {b""}
    pending = [b""]
    while pending:
        folder = pending.pop()
        hidden = scan.hidden(folder)
        if hidden:
            _make_parents(upper, folder, made)
        for name in hidden:
            os.mknod(upper + b"/" + join(folder, name), stat.S_IFCHR | 0o600, 0)
        for name in scan.names(folder):
            path = join(folder, name)
            if scan.is_folder(path) and not scan.sent.sends_all_below(path):
                pending.append(path)
    for folder in sorted(made, reverse=True):
        status = os.lstat(scan.full(folder))
        here = upper + b"/" + folder if folder else upper
        os.chown(here, status.st_uid, status.st_gid)
        os.chmod(here, stat.S_IMODE(status.st_mode))
        os.utime(here, ns=(status.st_atime_ns, status.st_mtime_ns))


def _make_parents(upper: bytes, folder: bytes, made: set[bytes]) -> None:
    missing = []
    while folder not in made:
        missing.append(folder)
        folder = parent(folder)
    for path in reversed(missing):
        os.mkdir(upper + b"/" + path, 0o700)
        made.add(path)


def copy_sent(scan: LocalScan, target: bytes, *, only: Iterable[bytes] | None = None) -> None:
    """Copy what is sent into the directory `target`; everything belongs to 0:0, as once received.

    Hard links stay links, sockets become empty files. With `only`, just those paths are copied, and
    the directories above them.
    """
    wanted = None if only is None else _with_parents(only)
    links: dict[tuple[int, int], bytes] = {}
    folders: list[tuple[bytes, bytes, os.stat_result]] = []
    for path, status in scan.entries():
        if wanted is not None and path not in wanted:
            continue
        source, made = scan.full(path), target + b"/" + path
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(made, 0o755)
            folders.append((source, made, status))
            continue
        if status.st_nlink > 1:
            known = links.setdefault((status.st_dev, status.st_ino), made)
            if known != made:
                os.link(known, made, follow_symlinks=False)
                continue
        _copy_entry(source, made, status)
        _copy_metadata(source, made, status)
    for source, made, status in reversed(folders):
        _copy_metadata(source, made, status)


def _with_parents(paths: Iterable[bytes]) -> set[bytes]:
    found: set[bytes] = set()
    for path in paths:
        while path and path not in found:
            found.add(path)
            path = parent(path)
    return found


def _copy_entry(source: bytes, made: bytes, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), made)
    elif stat.S_ISREG(status.st_mode):
        copy_file(source, made, status)
    elif stat.S_ISSOCK(status.st_mode):
        os.close(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    else:
        os.mknod(made, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev)


def _copy_metadata(source: bytes, made: bytes, status: os.stat_result) -> None:
    os.chown(made, 0, 0, follow_symlinks=False)
    copy_xattrs(source, made)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(made, stat.S_IMODE(status.st_mode))
    os.utime(made, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
