"""`CacheMounts`: retained directories of cache mounts, and who may use one at a time.

The store hands a retained record to one holder. Shared mounts of this process are therefore one
holder together, that mounts it once; other processes wait until it is given back, for two overlays
must not have one upper layer.

Spec: reference of exec, section 3.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from torana.core.cache.ref import ImmutableRef, MutableRef, RefStore
from torana.core.llb.ops import CacheSharing
from torana.core.pool import run_blocking


@dataclass(frozen=True, slots=True)
class CacheRequest:
    """A cache mount: `key` identifies it, `base` fills it on first use."""

    key: str
    sharing: CacheSharing
    description: str
    base: ImmutableRef | None = None


class CacheMounts:
    """The cache mounts of a worker. Used on one event loop."""

    def __init__(self, refs: RefStore) -> None:
        self._refs = refs
        self._shared: dict[str, _Shared] = {}

    def use(self, request: CacheRequest) -> AbstractAsyncContextManager[Path]:
        """Have the directory of a cache, writable, while entered; entering may have to wait."""
        match request.sharing:
            case CacheSharing.SHARED:
                return self._use_shared(request)
            case CacheSharing.PRIVATE:
                return self._use_private(request)
            case _:
                return self._use_locked(request)

    @asynccontextmanager
    async def _use_locked(self, request: CacheRequest) -> AsyncIterator[Path]:
        async with _mounted(await self._open(request, request.key, wait=True)) as path:
            yield path

    @asynccontextmanager
    async def _use_private(self, request: CacheRequest) -> AsyncIterator[Path]:
        ref, number = None, 0
        while ref is None:
            key = f"{request.key}:{number}" if number else request.key
            ref = await self._refs.retained(
                key, description=request.description, base=request.base, wait=False
            )
            number += 1
        async with _mounted(ref) as path:
            yield path

    @asynccontextmanager
    async def _use_shared(self, request: CacheRequest) -> AsyncIterator[Path]:
        shared = self._shared.setdefault(request.key, _Shared())
        shared.users += 1
        try:
            async with shared.lock:
                if shared.mount is None:
                    mount = _mounted(await self._open(request, request.key, wait=True))
                    shared.path = await mount.__aenter__()
                    shared.mount = mount
            yield shared.path
        finally:
            shared.users -= 1
            if not shared.users:
                del self._shared[request.key]
                if shared.mount is not None:
                    await shared.mount.__aexit__(None, None, None)

    async def _open(self, request: CacheRequest, key: str, *, wait: bool) -> MutableRef:
        ref = await self._refs.retained(
            key, description=request.description, base=request.base, wait=wait
        )
        assert ref is not None, "a store that waits gives a ref"
        return ref


@dataclass(slots=True)
class _Shared:
    users: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    mount: AbstractAsyncContextManager[Path] | None = None
    path: Path = Path()


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
