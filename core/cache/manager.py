"""`CacheManager`: makes and finds refs, and keeps their data and rows in step.

The protocol is told in docs/design/store.md.
"""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from weakref import WeakValueDictionary

from torana.core.cache.checksums import Checksums
from torana.core.cache.copies import Copies
from torana.core.cache.lease import HoldKind, Lease, is_held
from torana.core.cache.lockedfolders import make_locked_folder
from torana.core.cache.pending import Pending, PendingStack
from torana.core.cache.records import RecordTable, RefRecord
from torana.core.cache.ref import ImmutableRef, MutableRef, RecordType
from torana.core.cache.retained import RetainedFolders
from torana.core.cache.snapshotref import NewRef, SnapshotRef
from torana.core.content.durability import sync_filesystem
from torana.core.database import Database
from torana.core.errors import NotFoundError
from torana.core.faults import fault_point
from torana.core.oci.digest import Digest
from torana.core.pool import run_blocking
from torana.core.snapshots import mounts
from torana.core.snapshots.snapshotter import LayerOf, Snapshotter
from torana.core.snapshots.stacks import StackingSnapshotter


class CacheManager:
    """The refs of one root, as one process uses them."""

    def __init__(self, root: Path, database: Database, snapshots: Snapshotter) -> None:
        self.root = root
        self.database = database
        self.snapshots = snapshots
        self.lease = Lease(root, database)
        self.records = RecordTable(database)
        self.checksums = Checksums(self.records, database, snapshots)
        self.copies = Copies(self)
        self.retained_folders = RetainedFolders(self)
        self.view_mounts: list[str] = []
        self.overlay_options: tuple[str, ...] = getattr(snapshots, "options", ())
        self.pending: WeakValueDictionary[str, Pending] = WeakValueDictionary()
        self._views: tuple[Path, int] | None = None
        self._views_mutex = threading.Lock()

    @property
    def views(self) -> Path:
        """The folder for views of this process, made and locked on first use."""
        with self._views_mutex:
            if self._views is None:
                self.lease.begin()
                self._views = make_locked_folder(self.root / "views")
            return self._views[0]

    # RefStore

    async def new_mutable(
        self,
        parent: ImmutableRef | None,
        *,
        description: str = "",
        record_type: RecordType = RecordType.REGULAR,
    ) -> MutableRef:
        if parent is not None:
            await parent.ready()
        ref = NewRef(self, parent, description, record_type)
        try:
            await run_blocking(ref.prepare)
        except BaseException:
            await ref.release()
            raise
        return ref

    async def stack(self, layers: Sequence[LayerOf], *, description: str = "") -> ImmutableRef:
        id = secrets.token_hex(12)
        needed = self._needed(layers)
        make = partial(self._stack, id, layers, needed, description)
        if not any(self.pending_of(name) for name in needed):
            return await run_blocking(make)
        parts: list[ImmutableRef] = []
        for name in needed:
            pending = self.pending_of(name)
            parts.append(self.find(name) if pending is None else pending.hold())
        made = self.pending[id] = Pending(
            id,
            PendingStack(parts, make),
            parent=None,
            layers=tuple(layers),
            description=description,
            created=time.time(),
        )
        return made.hold()

    def _stack(
        self, id: str, layers: Sequence[LayerOf], needed: Sequence[str], description: str
    ) -> SnapshotRef:
        if self.snapshots.exists(id):
            return self.find(id)  # made before, and let go since
        self.lease.hold(HoldKind.REF, id)
        try:
            self.snapshots.stack(id, layers)
            record = self.records.add(
                id, parents=needed, description=description, record_type=RecordType.REGULAR
            )
        except BaseException:
            self.snapshots.remove(id)
            self.lease.release(HoldKind.REF, id)
            raise
        return SnapshotRef(self, record)

    def _needed(self, layers: Sequence[LayerOf]) -> list[str]:
        """Give the refs that layers are of, each once, without those that others keep anyway."""
        named = [name for layer in layers for name in (layer.lower, layer.upper)]
        kept = {
            layer.lower
            for layer in layers
            if layer.upper is not None and self.parent_of(layer.upper) == layer.lower
        }
        return [name for name in dict.fromkeys(named) if name is not None and name not in kept]

    def parent_of(self, ref_id: str) -> str | None:
        """Give the id of the ref that one is made on, whether its data is here or not."""
        pending = self.pending_of(ref_id)
        if pending is None:
            return self.snapshots.parent(ref_id)
        return None if pending.parent is None else pending.parent.id

    def pending_of(self, ref_id: str) -> Pending | None:
        """Give what makes a ref whose data is not here yet."""
        pending = self.pending.get(ref_id)
        return pending if pending is not None and pending.is_open else None

    async def get(self, ref_id: str) -> ImmutableRef:
        return self.find(ref_id)

    def find(self, ref_id: str) -> SnapshotRef:
        """Find a ref and give a handle on it.

        Raises:
            NotFoundError: it is gone, or its data is, or that of a parent.
        """
        self.lease.hold(HoldKind.REF, ref_id)  # before looking: see docs/design/store.md
        try:
            return SnapshotRef(self, self._checked(ref_id))
        except BaseException:
            self.lease.release(HoldKind.REF, ref_id)
            raise

    def borrow(self, ref_id: str) -> SnapshotRef:
        """Give a handle on a ref that somebody else holds, or holds a child of."""
        record = self.records.get(ref_id)
        if record is None:
            raise NotFoundError(f"cache record not found: `{ref_id}`")
        return SnapshotRef(self, record, is_borrowed=True)

    async def retained(
        self,
        key: str,
        *,
        description: str,
        base: ImmutableRef | None,
        wait: bool,
        is_shared: bool = False,
        record_type: RecordType = RecordType.CACHE_MOUNT,
    ) -> MutableRef | None:
        return await self.retained_folders.open(
            key,
            description=description,
            base=base,
            wait=wait,
            is_shared=is_shared,
            record_type=record_type,
        )

    async def forget_retained(self, is_meant: Callable[[str], bool]) -> None:
        await run_blocking(self.retained_folders.forget, is_meant)

    def hold_blob(self, digest: Digest) -> None:
        """Keep a blob from being collected until the builds that run now have ended."""
        self.lease.hold_for_builds(HoldKind.BLOB, digest)

    def is_orderly(self) -> bool:
        """Say whether every process before has cleared up after itself; cheap."""
        return not self.lease.stale() and not self.records.lost()

    # Data of records, whatever their kind

    def is_held(self, ref_id: str) -> bool:
        """Say whether any process holds the ref."""
        return is_held(self.database, HoldKind.REF, ref_id)

    def has_data(self, record: RefRecord) -> bool:
        """Say whether the record's own data is there."""
        if record.is_mutable:
            return self.retained_folders.exists(record.id)
        return self.snapshots.exists(record.id)

    def measure(self, record: RefRecord) -> int:
        """Give the bytes that the record's own data takes."""
        if record.is_mutable:
            return self.retained_folders.size_bytes(record.id)
        return self.snapshots.usage(record.id).size_bytes

    def remove_free(self, record_id: str) -> bool:
        """Remove a record that nobody holds and that is nobody's parent; says whether it was.

        The row goes first. What happens between it and the data is noticed by the next start.
        """
        self.lease.begin()
        if not self.records.delete_free(record_id):
            return False
        try:
            self.remove_data(record_id)
        except BaseException:
            self.lease.leave_work()
            raise
        return True

    def remove_data(self, record_id: str) -> None:
        """Move the data of a record that has no row any more out of sight."""
        fault_point("data.remove")
        self.snapshots.remove(record_id)
        self.retained_folders.remove(record_id)

    def sweep(self, *, pause_s: float = 0.0) -> None:
        """Delete from disk what was removed."""
        fault_point("data.sweep")
        self.snapshots.sweep(pause_s=pause_s)
        self.retained_folders.sweep(pause_s=pause_s)

    def has_trash(self) -> bool:
        """Say whether something was removed that `sweep` would delete; other snapshotters: no."""
        return isinstance(self.snapshots, StackingSnapshotter) and self.snapshots.has_trash()

    # The store as a whole

    def flush(self) -> None:
        """Bring what this process wrote to the disk, and note that it is there."""
        ids = self.records.unsynced()
        sync_filesystem(self.root)
        if ids:
            self.records.mark_synced(ids)

    def close(self) -> None:
        """Remove what only this process used, and give up its holds."""
        for target in self.view_mounts:
            mounts.unmount(target)
        self.view_mounts.clear()
        if self._views is not None:
            folder, lock = self._views
            self._views = None
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
        self.snapshots.close()
        self.lease.close()

    def _checked(self, ref_id: str) -> RefRecord:
        """Give the row of a ref that is whole."""
        record = self.records.get(ref_id)
        pending = [record]
        seen: set[str] = set()
        while pending:
            each = pending.pop()
            if each is None or not self.has_data(each):
                raise NotFoundError(f"cache record not found: `{ref_id}`")
            for parent in each.parents:
                if parent not in seen:
                    seen.add(parent)
                    pending.append(self.records.get(parent))
        assert record is not None
        return record


def bump_generation(root: Path) -> None:
    """Void all build memos: something was removed from the store."""
    temporary = root / f".generation.{os.getpid()}"
    temporary.write_text(secrets.token_hex(8))
    os.replace(temporary, root / "generation")
