"""`Tree`, `ImmutableRef`, `MutableRef`: handles on file trees, what ops give and take.

A `Tree` is anything that ops can read: a committed snapshot (`ImmutableRef`) or a folder of the
client that is read in place (`LocalTree`, in `torana.core.cache.local`). All are `solver.Result`s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from enum import Enum
from pathlib import Path
from typing import Protocol

from torana.core.oci.digest import Digest
from torana.core.records import dataclass
from torana.core.snapshots.snapshotter import LayerOf


class RecordType(Enum):
    """Kind of a cache record, as shown by `torana du`."""

    REGULAR = "regular"
    INTERNAL = "internal"
    FRONTEND = "frontend"
    LOCAL = "source.local"
    GIT_CHECKOUT = "source.git.checkout"
    CACHE_MOUNT = "exec.cachemount"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """Part of a tree that an op uses, for content digests (contenthash reference, section 6)."""

    path: str = "/"
    wildcard: bool = False
    follow_links: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    required: tuple[str, ...] = ()


class Tree(Protocol):
    """A readable file tree; also a `solver.Result`."""

    @property
    def id(self) -> str: ...

    def clone(self) -> Tree: ...

    async def release(self) -> None: ...

    async def ready(self) -> None:
        """Bring here what is still elsewhere, such as layers in a registry.

        Cancelling ends that. `mount` does it too, but cannot be cancelled.
        """
        ...

    def mount(self) -> AbstractContextManager[Path]:
        """Show the tree read-only at a directory while entered; blocks, briefly after `ready`.

        For a `LocalTree` it is the folder itself when nothing is filtered out of it, else a
        hard-linked or copied view of what is included.
        """
        ...

    async def content_digest(self, selectors: Sequence[Selector]) -> Digest:
        """Compute the digest of the selected parts, equal to BuildKit's.

        Raises:
            NotFoundError: a plain path or a required path does not exist.
        """
        ...

    async def snapshot(self) -> ImmutableRef:
        """Give the tree as a committed snapshot: itself, or made (and remembered) from a folder.

        The returned handle is the caller's to release.
        """
        ...


class ImmutableRef(Tree, Protocol):
    """A committed snapshot with its chain of parents; its `id` is also the snapshot's name."""

    @property
    def snapshot_name(self) -> str: ...

    @property
    def parent(self) -> ImmutableRef | None:
        """The ref below, borrowed; None for a base layer."""
        ...

    def make(self) -> None:
        """Do in this thread what `ready` does."""
        ...

    @property
    def layers(self) -> tuple[LayerOf, ...]:
        """Its layers, base first: those of the parent and its own, or what was stacked."""
        ...

    @property
    def description(self) -> str: ...

    @property
    def created(self) -> float:
        """Seconds since the epoch."""
        ...

    def clone(self) -> ImmutableRef: ...


class MutableRef(Protocol):
    """An active snapshot; ends by `commit` or `release`."""

    @property
    def id(self) -> str: ...

    @property
    def snapshot_name(self) -> str: ...

    def mount(self) -> AbstractContextManager[Path]:
        """Show the tree, writable, while entered."""
        ...

    async def commit(self) -> ImmutableRef:
        """Freeze it; this handle is used up and the returned one is the caller's."""
        ...

    async def release(self) -> None:
        """Throw it away, or keep it where it is a retained record (cache mounts)."""
        ...


class RefStore(Protocol):
    """Makes and finds refs: `torana.core.cache.manager.CacheManager` to ops.

    None as a tree means scratch everywhere: no snapshot at all, an empty directory when mounted.
    """

    async def new_mutable(
        self,
        parent: ImmutableRef | None,
        *,
        description: str = "",
        record_type: RecordType = RecordType.REGULAR,
    ) -> MutableRef: ...

    async def stack(self, layers: Sequence[LayerOf], *, description: str = "") -> ImmutableRef:
        """Make a ref of layers put on each other, base first, which are kept as long as it is.

        Nothing is computed before it is mounted, and no data is copied then.
        """
        ...

    async def get(self, ref_id: str) -> ImmutableRef:
        """Find a stored ref and give a handle on it.

        Raises:
            NotFoundError: it is gone.
        """
        ...

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
        """Open the retained mutable record `key` (cache mounts), made on first use from `base`.

        One holder alone, or all with `is_shared`, of whatever process: when it is not to be had,
        waits if `wait`, else gives None.
        """
        ...

    async def forget_retained(self, is_meant: Callable[[str], bool]) -> None:
        """Let no cache mount be found again whose key `is_meant`; who holds one goes on with it."""
        ...
