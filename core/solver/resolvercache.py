"""`ResolverCache`: what remote names were resolved to, so that all of a build sees one answer.

A key is locked while somebody looks it up. A vertex that several jobs share locks the caches of all
of them, and gives its answer to all.

Spec: the solver reference, section 13.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any

_numbers = count()


class Lookup:
    """One look-up: `values` are the answers so far, `answer` the new one if it is not None."""

    __slots__ = ("answer", "values")

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = tuple(values)
        self.answer: Any = None


class ResolverCache:
    """Answers of one job, by key."""

    def __init__(self) -> None:
        self.number = next(_numbers)
        self._values: dict[Hashable, list[Any]] = {}
        self._locks: dict[Hashable, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def lock(self, key: Hashable) -> AsyncIterator[Lookup]:
        """Hold `key`; an answer set by the body is kept unless the body fails."""
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                lookup = Lookup(self._values.get(key, ()))
                yield lookup
                if lookup.answer is not None:
                    self._values.setdefault(key, []).append(lookup.answer)
        finally:
            lock, users = self._locks.pop(key)
            if users > 1:
                self._locks[key] = (lock, users - 1)


class CombinedResolverCache:
    """Several caches as one: locked together, always in the same order, and given one answer."""

    def __init__(self, caches: Sequence[ResolverCache]) -> None:
        self._caches = sorted(caches, key=lambda cache: cache.number)

    @asynccontextmanager
    async def lock(self, key: Hashable) -> AsyncIterator[Lookup]:
        """Hold `key` in all caches; `values` are those of all of them, each once."""
        async with AsyncExitStack() as stack:
            lookups = [await stack.enter_async_context(cache.lock(key)) for cache in self._caches]
            values: list[Any] = []
            for lookup in lookups:
                values += [value for value in lookup.values if value not in values]
            combined = Lookup(values)
            yield combined
            for lookup in lookups:
                lookup.answer = combined.answer
