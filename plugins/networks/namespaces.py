"""`network_namespace`: a new network namespace with loopback, kept by a file."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from torana.core.ops.runtime import RuntimeFailedError
from torana.core.pool import run_blocking
from torana.core.snapshots import mounts
from torana.plugins.runtimes.threadspaces import unshare_network


@asynccontextmanager
async def network_namespace(file: Path) -> AsyncIterator[Path]:
    """Make a namespace that `file`, a new one, stands for while entered.

    Raises:
        RuntimeFailedError: the kernel does not allow it.
    """
    file.touch(mode=0o600)
    await _in_own_thread(file)
    try:
        yield file
    finally:
        await run_blocking(_forget, file)


def _forget(file: Path) -> None:
    mounts.unmount(str(file))
    file.unlink(missing_ok=True)


async def _in_own_thread(file: Path) -> None:
    """Bind the namespace of a thread that ends: threads of the pool must stay where they are."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def work() -> None:
        try:
            unshare_network()
            mounts.bind("/proc/thread-self/ns/net", str(file))
        except OSError as err:
            error = RuntimeFailedError(f"cannot make a network namespace: {err.strerror}")
            error.__cause__ = err
            loop.call_soon_threadsafe(done.set_exception, error)
        else:
            loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=work, name="torana-network")
    thread.start()
    try:
        await asyncio.shield(done)
    except asyncio.CancelledError:
        await asyncio.wait([done])
        if done.exception() is None:
            await run_blocking(_forget, file)
        raise
    finally:
        thread.join()
