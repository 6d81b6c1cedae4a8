"""What snapshotters share: one folder per snapshot, committed and removed by renames.

<root>/<name>/fs        the layer's own files (native: the whole tree)
<root>/<name>/parent    name of the parent, if any
<root>/<name>/stack     the layers of a stack, which has no `fs` until it is first used
<root>/new-<key>/lock   an active snapshot, locked by its process
<root>/trash/           removed, to be deleted from disk when there is time
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from torana.core.errors import ConflictError, NotFoundError
from torana.core.snapshots.allocation import spread_folders
from torana.core.snapshots.removal import remove_entry
from torana.core.snapshots.snapshotter import Usage

_ACTIVE: Final = "new-"
_TRASH: Final = "trash"


def _delete(trash: int, name: bytes, path: Path, pause_s: float) -> None:
    """Delete one entry of the trash, as far as we may; another process may be at it, too."""
    try:
        remove_entry(trash, name, pause_s=pause_s)
    except PermissionError:
        # Not root: folders of the tree may forbid even their owner to empty them.
        for folder, names, _ in os.walk(os.fsencode(path) + b"/" + name):
            for inner in names:
                full = folder + b"/" + inner
                if not os.path.islink(full):
                    with suppress(OSError):
                        os.chmod(full, 0o700)
        with suppress(OSError):
            remove_entry(trash, name, pause_s=pause_s)
    except OSError:
        pass


class SnapshotFolders:
    """Names, parents and life of snapshots; mounting and copying is the snapshotter's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.trash = root / _TRASH
        self.trash.mkdir(parents=True, exist_ok=True)
        spread_folders(root)
        self._locks: dict[str, int] = {}
        self._parents: dict[str, str | None] = {}

    def folder(self, name: str) -> Path:
        """Give the folder of an active or committed snapshot.

        Raises:
            NotFoundError: there is none.
        """
        active = self.root / f"{_ACTIVE}{name}"
        if name in self._locks or active.is_dir():
            return active
        committed = self.root / name
        if not committed.is_dir():
            raise NotFoundError(f"snapshot not found: `{name}`")
        return committed

    def is_active(self, name: str) -> bool:
        return name in self._locks or (self.root / f"{_ACTIVE}{name}").is_dir()

    def exists(self, name: str) -> bool:
        return os.path.isdir(f"{self.root}/{name}")  # asked for every vertex; a `Path` is slow

    def names(self) -> Iterator[str]:
        """Give committed snapshots."""
        for name in os.listdir(self.root):
            if not name.startswith(_ACTIVE) and name != _TRASH:
                yield name

    def parent(self, name: str) -> str | None:
        if name not in self._parents:
            folder = self.folder(name)
            try:
                self._parents[name] = (folder / "parent").read_text() or None
            except FileNotFoundError:
                self._parents[name] = None
        return self._parents[name]

    def chain(self, name: str) -> list[str]:
        """Give the snapshot and its ancestors, top first."""
        found: list[str] = []
        current: str | None = name
        while current is not None:
            found.append(current)
            current = self.parent(current)
        return found

    def create(self, key: str, parent: str | None) -> Path:
        """Make the folder of an active snapshot, with an empty `fs`."""
        if parent is not None and not self.exists(parent):
            raise NotFoundError(f"parent snapshot not found: `{parent}`")
        if self.exists(key):
            raise ConflictError(f"snapshot exists: `{key}`")
        folder = self.root / f"{_ACTIVE}{key}"
        with self._guard(fcntl.LOCK_SH):  # a sweep must not see the folder before its lock
            try:
                folder.mkdir(mode=0o700)
            except FileExistsError:
                raise ConflictError(f"snapshot exists: `{key}`") from None
            # Held until the snapshot is committed or removed, or the process ends.
            lock = os.open(folder / "lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._locks[key] = lock
        self._parents[key] = parent
        if parent is not None:
            (folder / "parent").write_text(parent)
        tree = folder / "fs"
        tree.mkdir(mode=0o755)
        os.chmod(tree, 0o755)
        return folder

    def commit(self, key: str, name: str) -> None:
        """Rename an active snapshot to its final name.

        Raises:
            ConflictError: `name` exists.
            NotFoundError: there is no active snapshot `key`.
        """
        try:
            os.rename(self.root / f"{_ACTIVE}{key}", self.root / name)
        except FileNotFoundError:
            raise NotFoundError(f"active snapshot not found: `{key}`") from None
        except OSError as err:
            if err.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            raise ConflictError(f"snapshot exists: `{name}`") from None
        # Only now: without its lock an active snapshot counts as abandoned.
        (self.root / name / "lock").unlink(missing_ok=True)
        self._parents[name] = self._parents.pop(key, None)
        self._unlock(key)

    def remove(self, name: str) -> None:
        """Move a snapshot to the trash; missing is no error."""
        self._discard(self.root / f"{_ACTIVE}{name}")
        self._discard(self.root / name)
        self._parents.pop(name, None)
        self._unlock(name)

    def _discard(self, folder: Path) -> None:
        try:
            os.rename(folder, self.trash / f"{folder.name}-{secrets.token_hex(4)}")
        except FileNotFoundError:
            pass

    @contextmanager
    def locked(self, folder: Path) -> Iterator[None]:
        """Hold a snapshot's folder alone, among threads and processes."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def _guard(self, operation: int) -> Iterator[None]:
        """Hold the lock of the whole folder: shared to make a snapshot, exclusive to sweep."""
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, operation)
            yield
        finally:
            os.close(descriptor)

    def _unlock(self, key: str) -> None:
        lock = self._locks.pop(key, None)
        if lock is not None:
            os.close(lock)

    def abandoned(self) -> list[str]:
        """Give active snapshots whose process is gone."""
        found = []
        for name in os.listdir(self.root):
            key = name.removeprefix(_ACTIVE)
            if key == name or key in self._locks:
                continue
            try:
                with open(self.root / name / "lock", "rb") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            except FileNotFoundError:
                if not (self.root / name).is_dir():
                    continue
            found.append(key)
        return found

    def sweep(self, *, pause_s: float = 0.0) -> None:
        """Delete what was removed, and what dead processes were writing."""
        with self._guard(fcntl.LOCK_EX):
            for key in self.abandoned():
                self._discard(self.root / f"{_ACTIVE}{key}")
        trash = os.open(self.trash, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in os.listdir(os.fsencode(self.trash)):
                _delete(trash, name, self.trash, pause_s)
        finally:
            os.close(trash)

    def has_trash(self) -> bool:
        """Say whether `sweep` has something to delete that was removed."""
        with os.scandir(self.trash) as entries:
            return next(entries, None) is not None

    def usage(self, name: str, *, shares_links: bool = False) -> Usage:
        """Add up the layer's own files; `shares_links` as for `tree_usage`."""
        tree = self.folder(name) / "fs"
        if not tree.is_dir():
            return Usage(0, 0)
        return tree_usage(os.fsencode(tree), shares_links=shares_links)


def tree_usage(root: bytes, *, shares_links: bool = False) -> Usage:
    """Add up the files below `root`; hard links count once.

    With `shares_links` files that have several links belong to somebody else.
    """
    size = inodes = 0
    seen: set[int] = set()
    pending = [root]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif status.st_nlink > 1:
                    if shares_links or status.st_ino in seen:
                        continue
                    seen.add(status.st_ino)
                size += status.st_blocks * 512
                inodes += 1
    return Usage(size, inodes)
