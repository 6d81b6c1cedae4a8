"""`SnapshotRef` and `NewRef`: handles on committed and on active snapshots."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from torana.core.cache.lease import HoldKind
from torana.core.cache.records import RefRecord
from torana.core.cache.ref import ImmutableRef, RecordType, Selector
from torana.core.faults import fault_point
from torana.core.oci.digest import Digest
from torana.core.pool import run_blocking
from torana.core.snapshots.snapshotter import LayerOf

if TYPE_CHECKING:
    from torana.core.cache.manager import CacheManager


class SnapshotRef:
    """A handle on a committed snapshot, which is not removed before `release`.

    A borrowed handle holds nothing itself: whoever lent it does.
    """

    def __init__(
        self, manager: CacheManager, record: RefRecord, *, is_borrowed: bool = False
    ) -> None:
        self._manager = manager
        self._is_counted = not is_borrowed
        self.record = record
        self.id = record.id
        self.description = record.description
        self.created = record.created

    @property
    def snapshot_name(self) -> str:
        return self.id

    @property
    def parent(self) -> SnapshotRef | None:
        below = self._manager.snapshots.parent(self.id)
        return None if below is None else self._manager.borrow(below)

    @property
    def layers(self) -> tuple[LayerOf, ...]:
        return self._manager.snapshots.layers(self.id)

    def clone(self) -> SnapshotRef:
        self._manager.lease.hold(HoldKind.REF, self.id)
        return SnapshotRef(self._manager, self.record)

    async def release(self) -> None:
        """End this handle; again it does nothing."""
        if self._is_counted:
            self._is_counted = False
            self._manager.lease.release(HoldKind.REF, self.id)

    async def ready(self) -> None:
        """Its data is here."""

    def make(self) -> None:
        """Its data is here."""

    @contextmanager
    def mount(self) -> Iterator[Path]:
        with self._manager.snapshots.mount(self.id, readonly=True) as path:
            yield path

    async def content_digest(self, selectors: Sequence[Selector]) -> Digest:
        return await run_blocking(self._manager.checksums.digest, self, selectors)

    async def snapshot(self) -> ImmutableRef:
        return self.clone()


class NewRef:
    """An active snapshot. It holds its parent and, from the beginning, its own future id."""

    def __init__(
        self,
        manager: CacheManager,
        parent: ImmutableRef | None,
        description: str,
        record_type: RecordType,
    ) -> None:
        self._manager = manager
        self._parent = None if parent is None else parent.clone()
        self._description = description
        self._record_type = record_type
        self.id = secrets.token_hex(12)
        manager.lease.hold(HoldKind.REF, self.id)
        self._record: RefRecord | None = None
        self._is_over = False

    @property
    def snapshot_name(self) -> str:
        return self.id

    def prepare(self) -> None:
        """Make the snapshot on disk; blocks."""
        if self._parent is not None:
            self._parent.make()
        below = None if self._parent is None else self._parent.snapshot_name
        self._manager.snapshots.prepare(self.id, below)

    @contextmanager
    def mount(self) -> Iterator[Path]:
        with self._manager.snapshots.mount(self.id, readonly=False) as path:
            yield path

    async def commit(self) -> ImmutableRef:
        record = await run_blocking(self._commit)
        self._is_over = True
        await self._release_parent()
        return SnapshotRef(self._manager, record)  # takes over the hold on the id

    def _commit(self) -> RefRecord:
        fault_point("snapshot.commit")
        self._manager.snapshots.commit(self.id, self.id)
        self._record = self._manager.records.add(
            self.id,
            parents=() if self._parent is None else (self._parent.id,),
            description=self._description,
            record_type=self._record_type,
        )
        return self._record

    async def release(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        try:
            if self._record is None:  # else committed, and cancelled before anybody was told
                await run_blocking(self._manager.snapshots.remove, self.id)
        finally:
            self._manager.lease.release(HoldKind.REF, self.id)
            await self._release_parent()

    async def _release_parent(self) -> None:
        if self._parent is not None:
            await self._parent.release()
