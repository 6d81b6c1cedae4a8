"""`LocalTree`: a folder of the client, read in place.

Nothing is copied: ops read the folder itself. What was hashed is looked at again after use, so that
a file that changes during the build fails the build and never poisons the cache.

Spec: reference of sources, section 7.
"""

from __future__ import annotations

import os
import secrets
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from torana.core.cache.checksum import Filter, ScannedTree, content_digest, signature
from torana.core.cache.ref import ImmutableRef, Selector
from torana.core.errors import ToranaError
from torana.core.oci.digest import Digest
from torana.core.patterns import PatternMatcher
from torana.core.pool import run_blocking
from torana.core.snapshots import mounts
from torana.core.snapshots.copytree import copy_file

if TYPE_CHECKING:
    from torana.core.cache.manager import CacheManager


class ChangedDuringBuildError(ToranaError):
    """A file of the client changed while the build was reading it."""

    code = "CHANGED_DURING_BUILD"


class LocalTree:
    """A folder through a filter; handles are clones of one shared scan."""

    def __init__(
        self,
        folder: Path,
        *,
        manager: CacheManager,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self._manager = manager
        self._sent = Filter(
            PatternMatcher(include) if include else None,
            PatternMatcher(exclude) if exclude else None,
        )
        self._scan = ScannedTree(os.fsencode(folder), is_local=True, sent=self._sent)
        self._view = _View(self._scan, manager)
        self._lock = threading.Lock()
        self.id = f"local:{secrets.token_hex(12)}"

    def clone(self) -> LocalTree:
        return self

    async def release(self) -> None:
        """Nothing is held: the view goes with the build."""

    @contextmanager
    def mount(self) -> Iterator[Path]:
        """Give the folder itself, or a view of it where something is filtered out."""
        if not (self._sent.include or self._sent.exclude):
            yield self.folder
            return
        with self._lock:
            path = self._view.make()
        yield path

    async def content_digest(self, selectors: Sequence[Selector]) -> Digest:
        return await run_blocking(self._digest, selectors)

    def _digest(self, selectors: Sequence[Selector]) -> Digest:
        with self._lock:
            return content_digest(self._scan, selectors)

    def listing(self) -> dict[str, bytes]:
        """Give what was looked at: relative path -> the first eight bytes of its digest."""
        with self._lock:
            known = self._scan.known_entries()
        return {os.fsdecode(path): bytes.fromhex(digest.encoded[:16]) for path, digest in known}

    def verify_unchanged(self) -> None:
        """Look at every hashed file again.

        Raises:
            ChangedDuringBuildError: one has changed since it was hashed.
        """
        for path, before in list(self._scan.seen.items()):
            full = self._scan.full(path)
            try:
                now = signature(os.lstat(full))
            except OSError:
                now = None
            if now != before:
                raise ChangedDuringBuildError(
                    f"file changed during the build: `{os.fsdecode(path)}`",
                    hint="build again when nothing writes to the context",
                )

    async def snapshot(self) -> ImmutableRef:
        """Copy what is sent into a snapshot of its own, owned by root."""
        mutable = await self._manager.new_mutable(None, description=f"local folder {self.folder}")
        try:

            def work() -> None:
                with mutable.mount() as target, self._lock:
                    _copy_sent(self._scan, os.fsencode(target))

            await run_blocking(work)
            return await mutable.commit()
        except BaseException:
            await mutable.release()
            raise


class _View:
    """A folder that shows only what is sent: an overlay whose upper layer hides the rest.

    Where overlays do not work it is a copy. Links into the client's folder would be cheaper, but
    would change the change times of the client's files.
    """

    def __init__(self, scan: ScannedTree, manager: CacheManager) -> None:
        self._scan = scan
        self._manager = manager
        self._path: Path | None = None

    def make(self) -> Path:
        if self._path is None:
            base = self._manager.views / secrets.token_hex(8)
            for name in ("merged", "upper", "work"):
                (base / name).mkdir(parents=True)
            merged = base / "merged"
            try:
                _hide_unsent(self._scan, os.fsencode(base / "upper"))
                mounts.mount_overlay(
                    str(merged),
                    [str(os.fsdecode(self._scan.root))],
                    upper=str(base / "upper"),
                    work=str(base / "work"),
                    options=self._manager.overlay_options,
                )
                self._manager.view_mounts.append(str(merged))
            except OSError:
                _copy_sent(self._scan, os.fsencode(merged))
            self._path = merged
        return self._path


def _hide_unsent(scan: ScannedTree, upper: bytes) -> None:
    """Put a whiteout into `upper` for each path that is not sent, its folders along with it."""
    made: set[bytes] = {b""}
    pending = [b""]
    while pending:
        folder = pending.pop()
        sent = scan.children(folder)
        hidden = set(os.listdir(scan.full(folder))) - set(sent)
        if hidden:
            _make_parents(scan, upper, folder, made)
        for name in hidden:
            path = folder + b"/" + name if folder else name
            os.mknod(upper + b"/" + path, stat.S_IFCHR | 0o600, 0)
        for name in sent:
            path = folder + b"/" + name if folder else name
            if stat.S_ISDIR(os.lstat(scan.full(path)).st_mode):
                pending.append(path)
    for folder in sorted(made, reverse=True):
        status = os.lstat(scan.full(folder))
        here = upper + b"/" + folder if folder else upper
        os.chown(here, status.st_uid, status.st_gid)
        os.chmod(here, stat.S_IMODE(status.st_mode))
        os.utime(here, ns=(status.st_atime_ns, status.st_mtime_ns))


def _make_parents(scan: ScannedTree, upper: bytes, folder: bytes, made: set[bytes]) -> None:
    missing = []
    while folder not in made:
        missing.append(folder)
        folder = folder.rpartition(b"/")[0]
    for path in reversed(missing):
        os.mkdir(upper + b"/" + path, 0o700)
        made.add(path)


def _entries(scan: ScannedTree) -> Iterator[tuple[bytes, os.stat_result]]:
    """Give what is sent, parents first."""
    pending = [b""]
    while pending:
        folder = pending.pop()
        for name in scan.children(folder):
            path = folder + b"/" + name if folder else name
            status = os.lstat(scan.full(path))
            yield path, status
            if stat.S_ISDIR(status.st_mode):
                pending.append(path)


def _make(source: bytes, made: bytes, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), made)
    elif stat.S_ISREG(status.st_mode):
        copy_file(source, made, status)
        os.chmod(made, stat.S_IMODE(status.st_mode))
    elif not stat.S_ISSOCK(status.st_mode):
        os.mknod(made, status.st_mode, status.st_rdev)
    else:
        return
    os.utime(made, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def _copy_sent(scan: ScannedTree, target: bytes) -> None:
    folders: list[tuple[bytes, os.stat_result]] = []
    for path, status in _entries(scan):
        source, made = scan.full(path), target + b"/" + path
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(made, 0o755)
            folders.append((made, status))
        else:
            _make(source, made, status)
    for made, status in reversed(folders):
        os.chmod(made, stat.S_IMODE(status.st_mode))
        os.utime(made, ns=(status.st_atime_ns, status.st_mtime_ns))
