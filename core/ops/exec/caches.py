"""`CacheMounts`: retained directories of cache mounts, and who may use one at a time.

The locks are the store's and hold for all processes that use it: a shared cache has any number of
users at once, a locked one waits for its turn, a private one takes the first that nobody is in.

Spec: reference of exec, section 3.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path

from torana.core.cache.ref import ImmutableRef, MutableRef, RefStore
from torana.core.llb.ops import CacheSharing
from torana.core.pool import run_blocking
from torana.core.records import dataclass

# Who writes a build chooses ids, and must not get at what else the store retains under a key of its
# own: repositories, files of clients.
_PREFIX = "cache-dir"


@dataclass(frozen=True, slots=True)
class CacheRequest:
    """A cache mount: `id` identifies it, together with `base`, which fills it on first use."""

    id: str
    sharing: CacheSharing
    description: str
    base: ImmutableRef | None = None

    @property
    def key(self) -> str:
        """What two mounts of one cache have in common."""
        return self.id if self.base is None else f"{self.id}:{self.base.id}"


class CacheMounts:
    """The cache mounts of a worker. Used on one event loop."""

    def __init__(self, refs: RefStore) -> None:
        self._refs = refs

    @asynccontextmanager
    async def use(self, request: CacheRequest) -> AsyncIterator[Path]:
        """Have the directory of a cache, writable, while entered; entering may have to wait."""
        ref, number = None, 0
        while ref is None:
            ref = await self._refs.retained(
                f"{_PREFIX}-{number}:{request.key}" if number else f"{_PREFIX}:{request.key}",
                description=request.description,
                base=request.base,
                wait=request.sharing is not CacheSharing.PRIVATE,
                is_shared=request.sharing is CacheSharing.SHARED,
            )
            number += 1
        async with _mounted(ref) as path:
            yield path

    async def empty(self, ids: Mapping[str, bool]) -> None:
        """Let the caches called `ids` start anew; True: those that have a base, whichever it is."""

        def is_meant(key: str) -> bool:
            name = re.sub(rf"\A{_PREFIX}(-\d+)?:", "", key)
            return any(
                name.startswith(f"{id}:") if has_base else name == id
                for id, has_base in ids.items()
            )

        await self._refs.forget_retained(is_meant)


@asynccontextmanager
async def _mounted(ref: MutableRef) -> AsyncIterator[Path]:
    """Mount a retained record, and give it back at the end."""
    try:
        mount: AbstractContextManager[Path] = ref.mount()
        path = await run_blocking(mount.__enter__)
        try:
            yield path
        finally:
            await run_blocking(mount.__exit__, None, None, None)
    finally:
        await ref.release()
