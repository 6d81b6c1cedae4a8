"""`Checksums`: content digests of snapshots, kept in the store.

The table `checksums` has a row per snapshot with everything that was learnt of it. It goes together
with the snapshot's record.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Final

from torana.core.cache.layerpaths import LayerPaths
from torana.core.cache.records import RecordTable
from torana.core.cache.ref import ImmutableRef, Selector
from torana.core.cache.snapshottree import SnapshotTree
from torana.core.database import Database, pack, unpack
from torana.core.oci.digest import Digest
from torana.core.snapshots.snapshotter import Snapshotter

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS checksums (ref TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""
_MAX_TREES: Final = 20  # snapshots whose digests stay in memory


class Checksums:
    """Digests of the snapshots of one store, whose records are `records`."""

    def __init__(self, records: RecordTable, database: Database, snapshots: Snapshotter) -> None:
        self._database = database
        self._snapshots = snapshots
        self._trees: OrderedDict[str, SnapshotTree] = OrderedDict()
        self._lock = threading.Lock()
        database.execute_script(_TABLES)
        records.on_delete.append(self.forget)

    def digest(self, ref: ImmutableRef, selectors: Sequence[Selector]) -> Digest:
        """Compute the content digest of a snapshot's parts, and keep what was learnt. Blocks.

        Raises:
            NotFoundError: a plain or required path is missing.
        """
        with self._lock:
            tree = self._tree(ref)
        digest, is_new = tree.digest(selectors)
        if is_new:
            self._database.execute(
                "INSERT OR REPLACE INTO checksums SELECT ?, ?"
                " WHERE EXISTS (SELECT 1 FROM ref_records WHERE id = ?)",
                (ref.id, pack(tree.dump()), ref.id),
            )
        return digest

    def forget(self, ref_id: str) -> None:
        """Drop what is kept of a snapshot."""
        self._database.execute("DELETE FROM checksums WHERE ref = ?", (ref_id,))
        self._trees.pop(ref_id, None)

    def _tree(self, ref: ImmutableRef) -> SnapshotTree:
        tree = self._trees.get(ref.id)
        if tree is None:
            below = self._nearest_known(ref)
            layers = None if below is None else self._layers_between(ref, below)
            tree = SnapshotTree(
                partial(self._snapshots.mount, ref.snapshot_name, readonly=True),
                below=None if below is None or layers is None else self._tree(below),
                layers=layers or (),
            )
            row = self._database.row("SELECT value FROM checksums WHERE ref = ?", (ref.id,))
            rows = None if row is None else unpack(row[0])
            if rows is not None:
                tree.restore(rows)
            self._trees[ref.id] = tree
            if len(self._trees) > _MAX_TREES:
                self._trees.popitem(last=False)
        else:
            self._trees.move_to_end(ref.id)
        return tree

    def _nearest_known(self, ref: ImmutableRef) -> ImmutableRef | None:
        """Find the first snapshot down the chain of which something is kept."""
        below = ref.parent
        while below is not None:
            if self._database.row("SELECT 1 FROM checksums WHERE ref = ?", (below.id,)):
                return below
            below = below.parent
        return None

    def _layers_between(self, ref: ImmutableRef, below: ImmutableRef) -> list[LayerPaths] | None:
        """Give the layers that `ref` has on top of `below`; None where it is no such pile."""
        above = self._snapshots.directories(ref.snapshot_name)
        base = self._snapshots.directories(below.snapshot_name)
        count = len(above) - len(base)
        if count <= 0 or list(above[count:]) != list(base):
            return None
        return [LayerPaths(os.fsencode(directory)) for directory in above[:count]]
