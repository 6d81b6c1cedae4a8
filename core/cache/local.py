"""`LocalTree`: a folder of the client, read in place.

Nothing is copied: ops read the folder itself. What was hashed is looked at again after use, so that
a file that changes during the build fails the build and never poisons the cache.

Spec: reference of sources, section 7.
"""

from __future__ import annotations

import os
import secrets
import shutil
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
        self._view = _View(self._scan, manager.views)
        self._lock = threading.Lock()
        self.id = f"local:{secrets.token_hex(12)}"

    def clone(self) -> LocalTree:
        return self

    async def release(self) -> None:
        """Nothing is held: the view goes with the build."""

    @contextmanager
    def mount(self) -> Iterator[Path]:
        """Give the folder itself, or a view of links where something is filtered out."""
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
            # Making a view links the file, which changes its change time.
            is_same = now is not None and (now[0], now[1], now[3]) == (
                before[0], before[1], before[3],
            )
            if not is_same:
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
    """A folder of links to what is sent."""

    def __init__(self, scan: ScannedTree, root: Path) -> None:
        self._scan = scan
        self._root = root
        self._path: Path | None = None

    def make(self) -> Path:
        if self._path is None:
            path = self._root / secrets.token_hex(8)
            path.mkdir(parents=True)
            try:
                _link_sent(self._scan, os.fsencode(path))
            except BaseException:
                shutil.rmtree(path, ignore_errors=True)
                raise
            self._path = path
        return self._path


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


def _link_sent(scan: ScannedTree, target: bytes) -> None:
    folders: list[tuple[bytes, os.stat_result]] = []
    for path, status in _entries(scan):
        source, made = scan.full(path), target + b"/" + path
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(made, 0o755)
            folders.append((made, status))
            continue
        try:
            os.link(source, made, follow_symlinks=False)
        except OSError:
            _make(source, made, status)
    for made, status in reversed(folders):
        os.chmod(made, stat.S_IMODE(status.st_mode))
        os.utime(made, ns=(status.st_atime_ns, status.st_mtime_ns))


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
