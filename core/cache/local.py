"""`LocalTree`: a folder of the client, read in place.

Nothing is copied: ops read the folder itself. What was hashed is looked at again after use, so that
a file that changes during the build fails the build and never poisons the cache.

Spec: reference of sources, section 7.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from torana.core.cache.checksum import content_digest
from torana.core.cache.fileindex import FileIndex, signature
from torana.core.cache.followpaths import include_patterns
from torana.core.cache.localscan import LocalScan
from torana.core.cache.localview import LocalView, copy_sent
from torana.core.cache.ref import ImmutableRef, Selector
from torana.core.cache.treefilter import TreeFilter
from torana.core.errors import ToranaError
from torana.core.oci.digest import Digest
from torana.core.pool import run_blocking
from torana.core.records import dataclass

if TYPE_CHECKING:
    from torana.core.cache.manager import CacheManager


class ChangedDuringBuildError(ToranaError):
    """A file of the client changed while the build was reading it."""

    code = "CHANGED_DURING_BUILD"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSelection:
    """What of a folder counts.

    Patterns are dockerignore's; `follow` is added to `include` with what links lead to. Without
    `has_index` every file is read, whatever is known of it.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    follow: tuple[str, ...] = ()
    has_index: bool = True


class LocalTree:
    """A folder through a selection; handles are clones of one shared scan."""

    def __init__(
        self, folder: Path, *, manager: CacheManager, selection: LocalSelection | None = None
    ) -> None:
        self.folder = folder
        self._selection = selection or LocalSelection()
        self._manager = manager
        self._lock = threading.Lock()
        self.id = f"local:{secrets.token_hex(12)}"

    def clone(self) -> LocalTree:
        return self

    async def ready(self) -> None:
        """It is here."""

    async def release(self) -> None:
        """Nothing is held: the view goes with the build."""

    @cached_property
    def scan(self) -> LocalScan:
        """What is sent, as it was when it was first looked at; for one thread at a time."""
        chosen = self._selection
        root = os.fsencode(self.folder)
        include = include_patterns(root, chosen.include, chosen.follow)
        index = FileIndex(self._manager.database, self.folder) if chosen.has_index else None
        return LocalScan(root, sent=TreeFilter(include, chosen.exclude), index=index)

    @cached_property
    def _view(self) -> LocalView:
        return LocalView(self.scan, self._manager)

    @contextmanager
    def mount(self) -> Iterator[Path]:
        """Give the folder itself, or a view of it where something is filtered out."""
        with self._lock:
            path = self.folder if self.scan.sent.is_open else self._view.path()
        yield path

    async def content_digest(self, selectors: Sequence[Selector]) -> Digest:
        return await run_blocking(self._digest, selectors)

    def _digest(self, selectors: Sequence[Selector]) -> Digest:
        with self._lock:
            try:
                return content_digest(self.scan, selectors)
            except FileNotFoundError as err:
                raise _changed(os.fsdecode(err.filename or "")) from err
            finally:
                self.scan.save()

    def listing(self) -> dict[str, bytes]:
        """Give what was looked at: relative path -> the first eight bytes of its digest."""
        with self._lock:
            known = self.scan.known_entries()
        return {os.fsdecode(path): bytes.fromhex(digest.encoded[:16]) for path, digest in known}

    def known_files(self, folder: bytes) -> Mapping[bytes, tuple[str, os.stat_result]]:
        """Give digest and status of the files in a directory that were hashed, by name."""
        with self._lock:
            return self.scan.known_files(folder)

    def verify_unchanged(self, without: Container[bytes] = ()) -> None:
        """Look at every hashed file again, but for the paths of which nothing was read.

        Raises:
            ChangedDuringBuildError: one has changed since it was hashed.
        """
        for path, before in list(self.scan.seen.items()):
            if path in without:
                continue
            full = self.scan.full(path)
            try:
                is_same = signature(os.lstat(full)) == before
            except OSError:
                is_same = False
            if not is_same:
                raise _changed(os.fsdecode(path))

    async def snapshot(self) -> ImmutableRef:
        """Copy what is sent into a snapshot of its own, owned by root."""
        mutable = await self._manager.new_mutable(None, description=f"local folder {self.folder}")
        try:

            def work() -> None:
                with mutable.mount() as target:
                    self._fill(os.fsencode(target))

            await run_blocking(work)
            return await mutable.commit()
        except BaseException:
            await mutable.release()
            raise

    def _fill(self, target: bytes) -> None:
        with self._lock:
            copy_sent(self.scan, target)


def _changed(path: str) -> ChangedDuringBuildError:
    return ChangedDuringBuildError(
        f"file changed during the build: `{path}`",
        hint="build again when nothing writes to the context",
    )
