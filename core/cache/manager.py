"""`CacheManager`: refs on snapshots, their rows, and what may be removed.

A row is written after the snapshot it names and removed before it. Builds hold a shared lock on the
store, pruning takes it alone, so that nothing in use is ever collected (docs/adr/0002).
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from torana.core.cache.checksum import ScannedTree, content_digest
from torana.core.cache.ref import ImmutableRef, MutableRef, RecordType, Selector
from torana.core.content.durability import sync_filesystem
from torana.core.database import Database, pack, unpack
from torana.core.errors import ConflictError, NotFoundError, UnsupportedError
from torana.core.oci.digest import Digest
from torana.core.pool import run_blocking
from torana.core.snapshots import mounts
from torana.core.snapshots.copytree import copy_tree
from torana.core.snapshots.snapshotter import Snapshotter

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS refs (
    id TEXT PRIMARY KEY, parent TEXT, value BLOB NOT NULL, last_used REAL NOT NULL,
    usage_count INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS layers (
    ref TEXT NOT NULL, compression TEXT NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (ref, compression)
) WITHOUT ROWID;
"""
_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """A record as `torana du` shows it."""

    id: str
    parent: str | None
    description: str
    record_type: str
    size_bytes: int
    created: float  # seconds since the epoch
    last_used: float
    usage_count: int
    is_mutable: bool = False


class SnapshotRef:
    """A committed snapshot. Handles cost nothing: the store's lock keeps data, not counting."""

    def __init__(self, manager: CacheManager, id: str, parent: SnapshotRef | None, value: Any):
        self._manager = manager
        self.id = id
        self.parent = parent
        self.description: str = value["description"]
        self.created: float = value["created"]
        self._scan: ScannedTree | None = None

    @property
    def snapshot_name(self) -> str:
        return self.id

    def clone(self) -> SnapshotRef:
        return self

    async def release(self) -> None:
        """Nothing is held by a handle."""

    @contextmanager
    def mount(self) -> Iterator[Path]:
        with self._manager.snapshots.mount(self.id, readonly=True) as path:
            yield path

    async def content_digest(self, selectors: Sequence[Selector]) -> Digest:
        return await run_blocking(self._digest, selectors)

    def _digest(self, selectors: Sequence[Selector]) -> Digest:
        with self.mount() as path:
            scan = self._scan or ScannedTree(os.fsencode(path))
            scan.root = os.fsencode(path)
            self._scan = scan
            return content_digest(scan, selectors)

    async def snapshot(self) -> ImmutableRef:
        return self


class NewRef:
    """An active snapshot."""

    def __init__(
        self,
        manager: CacheManager,
        parent: ImmutableRef | None,
        description: str,
        record_type: RecordType,
    ) -> None:
        self._manager = manager
        self._parent = parent
        self._description = description
        self._record_type = record_type
        self.id = secrets.token_hex(12)
        self._is_over = False

    @property
    def snapshot_name(self) -> str:
        return self.id

    @contextmanager
    def mount(self) -> Iterator[Path]:
        with self._manager.snapshots.mount(self.id, readonly=False) as path:
            yield path

    async def commit(self) -> ImmutableRef:
        self._is_over = True
        return await run_blocking(self._commit)

    def _commit(self) -> SnapshotRef:
        manager = self._manager
        manager.snapshots.commit(self.id, self.id)
        value = {
            "description": self._description,
            "created": time.time(),
            "type": self._record_type.value,
        }
        parent = None if self._parent is None else self._parent.id
        manager.database.execute(
            "INSERT INTO refs VALUES (?, ?, ?, ?, 1)", (self.id, parent, pack(value), time.time())
        )
        assert self._parent is None or isinstance(self._parent, SnapshotRef)
        return SnapshotRef(manager, self.id, self._parent, value)

    async def release(self) -> None:
        if not self._is_over:
            self._is_over = True
            await run_blocking(self._manager.snapshots.remove, self.id)


class RetainedRef:
    """The directory of a cache mount; held by one holder at a time through a file lock."""

    def __init__(self, folder: Path, lock: IO[bytes]) -> None:
        self._folder = folder
        self._lock = lock
        self.id = folder.name

    @property
    def snapshot_name(self) -> str:
        return self.id

    @contextmanager
    def mount(self) -> Iterator[Path]:
        yield self._folder / "fs"

    async def commit(self) -> ImmutableRef:
        raise UnsupportedError("a cache mount cannot be committed")

    async def release(self) -> None:
        self._lock.close()


class CacheManager:
    """Makes, finds and removes refs. One per process and root."""

    def __init__(self, root: Path, database: Database, snapshots: Snapshotter) -> None:
        self.root = root
        self.database = database
        self.snapshots = snapshots
        self.views = root / "views" / f"{os.getpid()}-{secrets.token_hex(4)}"
        self.view_mounts: list[str] = []
        self.overlay_options: tuple[str, ...] = getattr(snapshots, "options", ())
        self._retained = root / "cachemounts"
        self._retained.mkdir(exist_ok=True)
        database.execute_script(_TABLES)
        self._known: dict[str, SnapshotRef] = {}

    # RefStore

    async def new_mutable(
        self,
        parent: ImmutableRef | None,
        *,
        description: str = "",
        record_type: RecordType = RecordType.REGULAR,
    ) -> MutableRef:
        ref = NewRef(self, parent, description, record_type)
        below = None if parent is None else parent.snapshot_name
        await run_blocking(self.snapshots.prepare, ref.id, below)
        return ref

    async def get(self, ref_id: str) -> ImmutableRef:
        return self.find(ref_id)

    def find(self, ref_id: str) -> SnapshotRef:
        """Find a ref and its parents.

        Raises:
            NotFoundError: it is gone, or its snapshot is.
        """
        known = self._known.get(ref_id)
        if known is not None:
            return known
        chain: list[tuple[str, Any]] = []
        current: str | None = ref_id
        while current is not None and current not in self._known:
            row = self.database.row("SELECT parent, value FROM refs WHERE id = ?", (current,))
            value = None if row is None else unpack(row[1])
            if row is None or value is None or not self.snapshots.exists(current):
                raise NotFoundError(f"cache record not found: `{ref_id}`")
            chain.append((current, value))
            current = row[0]
        ref = self._known.get(current) if current is not None else None
        for id_, value in reversed(chain):
            ref = self._known[id_] = SnapshotRef(self, id_, ref, value)
        assert ref is not None
        return ref

    def touch(self, ref_id: str) -> None:
        """Note that a ref was used."""
        self.database.execute(
            "UPDATE refs SET last_used = ?, usage_count = usage_count + 1 WHERE id = ?",
            (time.time(), ref_id),
        )

    async def retained(
        self, key: str, *, description: str, base: ImmutableRef | None, wait: bool
    ) -> MutableRef | None:
        folder = self._retained / hashlib.sha256(key.encode()).hexdigest()[:32]
        folder.mkdir(exist_ok=True)
        lock = open(folder / "lock", "ab")  # closed by the ref's release
        try:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not wait:
                        lock.close()
                        return None
                    await asyncio.sleep(_POLL_S)
            await run_blocking(_fill, folder, base, description)
        except BaseException:
            lock.close()
            raise
        return RetainedRef(folder, lock)

    # The store as a whole

    def flush(self) -> None:
        """Bring what this build wrote to the disk."""
        sync_filesystem(self.root)

    def close(self) -> None:
        """Remove what only this process used."""
        for target in self.view_mounts:
            mounts.unmount(target)
        self.view_mounts.clear()
        shutil.rmtree(self.views, ignore_errors=True)

    def usages(self) -> list[Usage]:
        """Give all records, newest use first."""
        rows = self.database.rows(
            "SELECT id, parent, value, last_used, usage_count FROM refs ORDER BY last_used DESC, id"
        )
        found = []
        for id_, parent, data, last_used, count in rows:
            value = unpack(data)
            if value is None or not self.snapshots.exists(id_):
                continue
            found.append(
                Usage(
                    id=id_,
                    parent=parent,
                    description=value["description"],
                    record_type=value["type"],
                    size_bytes=self.snapshots.usage(id_).size_bytes,
                    created=value["created"],
                    last_used=last_used,
                    usage_count=count,
                )
            )
        return found

    def delete(self, ref_id: str) -> None:
        """Remove a record that is no parent: row first, then data."""
        with self.database.transaction():
            self.database.execute("DELETE FROM layers WHERE ref = ?", (ref_id,))
            self.database.execute("DELETE FROM refs WHERE id = ?", (ref_id,))
        self._known.pop(ref_id, None)
        self.snapshots.remove(ref_id)

    def prune_retained(self) -> int:
        """Remove cache mounts nobody uses; gives their number."""
        count = 0
        for folder in self._retained.iterdir():
            shutil.rmtree(folder, ignore_errors=True)
            count += 1
        return count

    def reconcile(self) -> list[str]:
        """Drop rows without data and data without rows; the store must be ours alone."""
        dropped: list[str] = []
        rows = self.database.rows("SELECT id, parent FROM refs")
        parents = dict(rows)
        whole: dict[str, bool] = {}

        def is_whole(id_: str) -> bool:
            chain, current = [], id_
            while current not in whole:
                chain.append(current)
                parent = parents.get(current)
                if current not in parents or not self.snapshots.exists(current):
                    whole[current] = False
                    break
                if parent is None:
                    whole[current] = True
                    break
                current = parent
            result = whole[current]
            for item in chain:
                whole.setdefault(item, result)
            return result

        for id_ in parents:
            if not is_whole(id_):
                self.database.execute("DELETE FROM refs WHERE id = ?", (id_,))
                dropped.append(f"record without data: {id_}")
        for name in list(self.snapshots.names()):
            if not whole.get(name):
                self.snapshots.remove(name)
                dropped.append(f"data without record: {name}")
        self.snapshots.sweep()
        for view in self.root.glob("views/*"):
            shutil.rmtree(view, ignore_errors=True)
        return dropped


def _fill(folder: Path, base: ImmutableRef | None, description: str) -> None:
    """Make a retained directory on first use; whole or not at all."""
    tree = folder / "fs"
    if tree.is_dir():
        return
    new = folder / "new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o755)
    os.chmod(new, 0o755)
    if base is not None:
        with base.mount() as source:
            copy_tree(os.fsencode(source), os.fsencode(new))
    (folder / "description").write_text(description)
    os.rename(new, tree)


class StoreLock:
    """The lock of a root: shared by builds, exclusive for what removes things."""

    def __init__(self, root: Path) -> None:
        folder = root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        self._file = open(folder / "store", "ab")  # closed by close

    def share(self) -> bool:
        """Lock for a build; says whether nobody else has the store, which is then ours alone."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            fcntl.flock(self._file, fcntl.LOCK_SH)
            return False

    def settle(self) -> None:
        """After `share` gave the store alone: let others in."""
        fcntl.flock(self._file, fcntl.LOCK_SH)

    def claim(self) -> None:
        """Lock the store alone.

        Raises:
            ConflictError: a build is running.
        """
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(
                "the store is in use by a running build", hint="try again when it is done"
            ) from None

    def close(self) -> None:
        self._file.close()


def bump_generation(root: Path) -> None:
    """Void all build memos: something was removed from the store."""
    temporary = root / f".generation.{os.getpid()}"
    temporary.write_text(secrets.token_hex(8))
    os.replace(temporary, root / "generation")
