"""The one bounded pool for blocking work (hashing, tar, file operations), and tasks together."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_pool: ThreadPoolExecutor | None = None


def worker_count() -> int:
    """Give the number of threads: a few more than processors, since much of the work is I/O."""
    return min(32, (os.cpu_count() or 1) + 4)


def renew() -> None:
    """Let go of the threads: those to come belong to the namespaces that the caller is in now."""
    global _pool
    pool, _pool = _pool, None
    if pool is not None:
        pool.shutdown(wait=False)


async def run_blocking(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `function` in the pool and give its result.

    Cancelling waits until the function returns, so that nothing it holds is pulled away below it.
    """
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(worker_count(), thread_name_prefix="torana")
    future = asyncio.wrap_future(_pool.submit(function, *args, **kwargs))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if not future.done():
            await asyncio.wait([future])
        if not future.cancelled():
            future.exception()
        raise


@asynccontextmanager
async def tasks_together() -> AsyncIterator[asyncio.TaskGroup]:
    """Give a `TaskGroup` whose first failure is raised as it is, and not as part of a group."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failed:
        error: BaseException = failed
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error  # noqa: B904  # `from` would replace its own cause
