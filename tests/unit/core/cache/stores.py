"""`Store`: one process's view of a root of plain folders. Several act as several processes."""

from __future__ import annotations

import os
from pathlib import Path

from torana.core.cache.manager import CacheManager
from torana.core.cache.ref import ImmutableRef, RecordType
from torana.core.cache.upkeep import Upkeep
from torana.core.content.images import ImageStore
from torana.core.content.store import ContentStore
from torana.core.database import Database
from torana.core.snapshots.native import NativeSnapshotter


class Store:
    """What a `Worker` has, without mounts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.database = Database(root / "torana.db")
        self.snapshots = NativeSnapshotter(root / "snapshots")
        self.refs = CacheManager(root, self.database, self.snapshots)
        self.content = ContentStore(root / "content", self.refs.hold_blob)
        self.images = ImageStore(self.database)
        self.upkeep = Upkeep(self.refs, self.content, self.images)

    async def commit(
        self,
        parent: ImmutableRef | None = None,
        *,
        size: int = 1,
        record_type: RecordType = RecordType.REGULAR,
        description: str = "",
    ) -> ImmutableRef:
        """Make a ref with one file of `size` blocks of 4096 bytes."""
        new = await self.refs.new_mutable(parent, description=description, record_type=record_type)
        with new.mount() as path:
            (path / new.id).write_bytes(b"x" * (size * 4096))
        return await new.commit()

    def die(self) -> None:
        """End as by SIGKILL: locks go, nothing else does."""
        lease = self.refs.lease
        if lease._lock is not None:
            lease._lock.close()
        locks = self.snapshots._folders._locks
        while locks:
            os.close(locks.popitem()[1])
        self.database.close()

    def close(self) -> None:
        self.refs.close()
        self.database.close()
