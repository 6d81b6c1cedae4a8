"""`RetainedFolders`: mutable records that are found again by a key, for cache mounts.

<root>/cachemounts/<id>/fs     the directory
<root>/cachemounts/new-<id>/   being filled
<root>/cachemounts/trash-<id>/ removed, to be deleted from disk when there is time

An id is never used twice: what is being removed cannot be taken for what has just been made.

The key's lock lets one holder in at a time, or all that share it. Before it comes the key's gate,
held only while one gets in: it makes the directory that is missing, and who waits to be alone there
is not passed by more and more sharers.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from torana.core.bytelocks import ByteLock, ByteLocks, lock_number
from torana.core.cache.lease import HoldKind
from torana.core.cache.ref import ImmutableRef, RecordType
from torana.core.errors import UnsupportedError
from torana.core.faults import fault_point
from torana.core.pool import run_blocking
from torana.core.snapshots.copytree import copy_tree
from torana.core.snapshots.folders import tree_usage
from torana.core.snapshots.removal import remove_entry

if TYPE_CHECKING:
    from torana.core.cache.manager import CacheManager

_NEW: Final = "new-"
_TRASH: Final = "trash-"


class RetainedRef:
    """A retained directory and the lock on its key."""

    def __init__(self, manager: CacheManager, id: str, folder: Path, lock: ByteLock) -> None:
        self._manager = manager
        self._folder = folder
        self._lock: ByteLock | None = lock
        self.id = id

    @property
    def snapshot_name(self) -> str:
        return self.id

    @contextmanager
    def mount(self) -> Iterator[Path]:
        yield self._folder

    async def commit(self) -> ImmutableRef:
        raise UnsupportedError("a cache mount cannot be committed")

    async def release(self) -> None:
        """Let the next one in; again it does nothing."""
        lock, self._lock = self._lock, None
        if lock is not None:
            try:
                await run_blocking(self._manager.records.used_mutable, self.id)
            finally:
                self._manager.lease.release(HoldKind.REF, self.id)
                lock.close()


class RetainedFolders:
    """Finds, makes and removes retained directories."""

    def __init__(self, manager: CacheManager) -> None:
        self._manager = manager
        self._root = manager.root / "cachemounts"
        self._root.mkdir(exist_ok=True)
        self._locks = ByteLocks(manager.root / "locks" / "cachemounts")
        self._gates = ByteLocks(manager.root / "locks" / "cachemounts-gates")

    async def open(
        self,
        key: str,
        *,
        description: str,
        base: ImmutableRef | None,
        wait: bool,
        is_shared: bool = False,
        record_type: RecordType = RecordType.CACHE_MOUNT,
    ) -> RetainedRef | None:
        """Give the record of `key`, made from `base` if there is none; None if it is taken."""
        number = lock_number(key)
        gate = await self._gates.lock(number) if wait else self._gates.try_lock(number)
        if gate is None:
            return None
        try:
            lock = (
                await self._locks.lock(number, is_shared=is_shared)
                if wait
                else self._locks.try_lock(number, is_shared=is_shared)
            )
            if lock is None:
                return None
            held: list[str] = []
            try:
                await run_blocking(self._find_or_make, key, description, base, record_type, held)
            except BaseException:
                # Cancelled, it may have come to its end all the same.
                for id in held:
                    self._manager.lease.release(HoldKind.REF, id)
                lock.close()
                raise
        finally:
            gate.close()
        return RetainedRef(self._manager, held[0], self.tree(held[0]), lock)

    def forget(self, is_meant: Callable[[str], bool]) -> None:
        """Let the records of some keys be found no more; those that nobody uses are removed.

        Who uses one goes on with it, and leaves it to the collection of garbage.
        """
        manager = self._manager
        manager.lease.settle()
        for id, key in manager.records.keys(RecordType.CACHE_MOUNT):
            if not is_meant(key):
                continue
            manager.records.drop_key(id)
            manager.remove_free(id)

    def tree(self, id: str) -> Path:
        return self._root / id / "fs"

    def exists(self, id: str) -> bool:
        return self.tree(id).is_dir()

    def ids(self) -> Iterator[str]:
        """Give the ids of all directories that are whole."""
        for name in os.listdir(self._root):
            if not name.startswith((_NEW, _TRASH)):
                yield name

    def size_bytes(self, id: str) -> int:
        return tree_usage(os.fsencode(self.tree(id))).size_bytes

    def remove(self, id: str) -> None:
        """Move a directory out of sight; missing is no error."""
        try:
            os.rename(self._root / id, self._root / f"{_TRASH}{id}")
        except FileNotFoundError:
            pass

    def sweep(self, *, pause_s: float = 0.0) -> None:
        """Delete from disk what was removed, and what nobody is filling any more."""
        folder = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in os.listdir(folder):
                is_new = name.startswith(_NEW)
                if is_new and self._manager.is_held(name.removeprefix(_NEW)):
                    continue
                if is_new or name.startswith(_TRASH):
                    try:
                        remove_entry(folder, os.fsencode(name), pause_s=pause_s)
                    except FileNotFoundError:
                        continue  # another process is at it
        finally:
            os.close(folder)

    def _find_or_make(
        self,
        key: str,
        description: str,
        base: ImmutableRef | None,
        record_type: RecordType,
        held: list[str],
    ) -> None:
        """Put the id of the record of `key` in `held`, and hold it; the gate is closed."""
        manager = self._manager
        known = manager.records.find_key(key)
        if known is not None:
            manager.lease.hold(HoldKind.REF, known)
            is_there = manager.records.get(known) is not None
            if is_there and self.exists(known):
                held.append(known)
                return
            manager.lease.release(HoldKind.REF, known)
            if is_there:
                manager.records.delete(known)
        id = secrets.token_hex(12)
        manager.lease.hold(HoldKind.REF, id)
        try:
            self._make(id, base)
            manager.records.add(
                id,
                parents=(),
                description=description,
                record_type=record_type,
                is_mutable=True,
                key=key,
            )
        except BaseException:
            manager.lease.release(HoldKind.REF, id)
            raise
        held.append(id)

    def _make(self, id: str, base: ImmutableRef | None) -> None:
        new = self._root / f"{_NEW}{id}"
        tree = new / "fs"
        tree.mkdir(mode=0o755, parents=True)
        os.chmod(tree, 0o755)
        if base is not None:
            with base.mount() as source:
                copy_tree(os.fsencode(source), os.fsencode(tree))
        fault_point("retained.rename")
        os.rename(new, self._root / id)
