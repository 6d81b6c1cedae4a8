"""`run_network`: calls that wait for servers, in threads of their own.

The pool for other blocking work is small and busy; who waits for a network would only sit in it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from torana.plugins.registry.errors import StoppedError

T = TypeVar("T")

DOWNLOADS: Final = 4  # at once, as BuildKit allows per registry
WEB_DOWNLOADS: Final = 8  # at once from web servers, of which one may well be slow
_pools: dict[str, ThreadPoolExecutor] = {}
_lock = threading.Lock()


def network_pool() -> ThreadPoolExecutor:
    """Give the pool of registries, for callers that are in a thread already."""
    return _pool("registry", DOWNLOADS)


def web_pool() -> ThreadPoolExecutor:
    """Give the pool of downloads from the web: they hold up no image, and no image them."""
    return _pool("web", WEB_DOWNLOADS)


def _pool(name: str, size: int) -> ThreadPoolExecutor:
    with _lock:
        if name not in _pools:
            _pools[name] = ThreadPoolExecutor(size, thread_name_prefix=name)
        return _pools[name]


async def run_network(
    stop: threading.Event,
    function: Callable[[], T],
    pool: Callable[[], ThreadPoolExecutor] = network_pool,
) -> T:
    """Run `function`, which ends soon after `stop` is set, and give its result.

    Cancelling sets `stop` and waits.
    """
    future = asyncio.wrap_future(pool().submit(function))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        stop.set()
        if not future.done():
            await asyncio.wait([future])
        if not future.cancelled():
            future.exception()
        raise
    except StoppedError:
        raise asyncio.CancelledError from None
