"""`PendingRef`: a ref whose data is made when somebody first needs it.

It has an id, layers and a place in the graph like any other ref, and no row: other processes do not
see it, and if nobody needs its data, it never existed. `make` turns it into an ordinary ref of the
same id. Layers of images that are still in a registry are pending, and merges of such.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from torana.core.cache.ref import ImmutableRef, Selector, Tree
from torana.core.cache.snapshotref import SnapshotRef
from torana.core.oci.digest import Digest
from torana.core.pool import run_blocking, tasks_together
from torana.core.snapshots.snapshotter import LayerOf


class Maker(Protocol):
    """What makes the data of one pending ref."""

    def make(self) -> SnapshotRef:
        """Make it and give a handle; blocks.

        Raises:
            ToranaError: it cannot be made; nothing is left behind, and it may be tried again.
        """
        ...

    def stop(self) -> None:
        """Let a `make` that runs in another thread fail soon."""
        ...

    async def release(self) -> None:
        """Release what it was to be made from."""
        ...


class Pending:
    """What all handles on one pending ref share."""

    def __init__(
        self,
        id: str,
        maker: Maker,
        *,
        parent: ImmutableRef | None,
        layers: tuple[LayerOf, ...],
        description: str,
        created: float,
    ) -> None:
        self.id = id
        self.parent = parent
        self.layers = layers
        self.description = description
        self.created = created
        self.maker = maker
        self._lock = threading.Lock()
        self._made: SnapshotRef | None = None
        self._handles = 0
        self._waiting = 0  # of coroutines in `ready`

    @property
    def is_open(self) -> bool:
        """Say whether somebody has a handle, and nobody has needed the data so far."""
        return self._handles > 0 and self._made is None

    @property
    def is_held(self) -> bool:
        """Say whether there is a handle; without one this is used up."""
        return self._handles > 0

    def made(self) -> SnapshotRef:
        """Give the ref, made now if it is not yet; blocks. The handle stays ours."""
        if self._made is None:
            with self._lock:
                if self._made is None:
                    self._made = self.maker.make()
        return self._made

    async def ready(self) -> None:
        """Make it; cancelling stops that unless others wait for it, too."""
        if self._made is not None:
            return
        self._waiting += 1
        work = asyncio.ensure_future(run_blocking(self.made))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            if self._waiting == 1:
                self.maker.stop()
                await asyncio.wait([work])
                if not work.cancelled():
                    work.exception()
            raise
        finally:
            self._waiting -= 1

    def stop(self) -> None:
        self.maker.stop()

    def hold(self) -> PendingRef:
        """Give a handle."""
        self._handles += 1
        return PendingRef(self)

    async def drop(self) -> None:
        """End one handle; after the last one this is used up."""
        self._handles -= 1
        if self._handles:
            return
        made, self._made = self._made, None
        if made is not None:
            await made.release()
        await self.maker.release()


class PendingRef:
    """A handle; an `ImmutableRef`."""

    def __init__(self, pending: Pending) -> None:
        self.pending = pending
        self.id = pending.id
        self._is_counted = True

    @property
    def snapshot_name(self) -> str:
        return self.id

    @property
    def parent(self) -> ImmutableRef | None:
        return self.pending.parent

    @property
    def layers(self) -> tuple[LayerOf, ...]:
        return self.pending.layers

    @property
    def description(self) -> str:
        return self.pending.description

    @property
    def created(self) -> float:
        return self.pending.created

    def clone(self) -> PendingRef:
        return self.pending.hold()

    async def release(self) -> None:
        """End this handle; again it does nothing."""
        if self._is_counted:
            self._is_counted = False
            await self.pending.drop()

    async def ready(self) -> None:
        await self.pending.ready()

    def make(self) -> None:
        self.pending.made()

    @contextmanager
    def mount(self) -> Iterator[Path]:
        with self.pending.made().mount() as path:
            yield path

    async def content_digest(self, selectors: Sequence[Selector]) -> Digest:
        await self.ready()
        return await self.pending.made().content_digest(selectors)

    async def snapshot(self) -> ImmutableRef:
        return self.clone()


class PendingStack:
    """Makes a stack once all that it is of has been made."""

    def __init__(self, parts: Sequence[ImmutableRef], stack: Callable[[], SnapshotRef]) -> None:
        self._parts = parts  # handles of our own
        self._stack = stack

    def make(self) -> SnapshotRef:
        for part in self._parts:
            part.make()
        return self._stack()

    def stop(self) -> None:
        for part in self._parts:
            if isinstance(part, PendingRef):
                part.pending.stop()

    async def release(self) -> None:
        for part in self._parts:
            await part.release()


async def all_ready(trees: Iterable[Tree | None]) -> None:
    """Bring here what trees still have elsewhere, all at once."""
    wanted = {tree.id: tree for tree in trees if tree is not None}
    async with tasks_together() as group:
        for tree in wanted.values():
            group.create_task(tree.ready())
