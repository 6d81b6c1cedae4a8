"""`Housekeeping`: disk usage and pruning for clients, garbage collection and history on a clock.

Garbage is collected a second after the start and after builds, at most once a minute.

Spec: reference of the daemon, sections 6 and 7.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from torana.core.cache.policy import Disk, GCPolicy, default_policies, policies_of
from torana.core.cache.usage import UsageRecord
from torana.core.errors import ToranaError
from torana.core.pool import run_blocking
from torana.core.worker import Worker
from torana.gateway.daemon.config import WorkerConfig
from torana.gateway.daemon.history import History
from torana.gateway.protocol import control_pb2 as pb

log = logging.getLogger(__name__)

_NS: Final = 1_000_000_000  # Go's durations
_FIRST_S: Final = 1.0
_PAUSE_S: Final = 60.0
_HISTORY_S: Final = 120.0
_SLICE_PAUSE_S: Final = 0.005  # between slices of deleting, not to disturb builds


class Housekeeping:
    """Keeps one worker's store and one history in shape; `run` is the clock."""

    def __init__(self, worker: Worker, config: WorkerConfig, history: History) -> None:
        self._worker = worker
        self._history = history
        self._is_collecting = config.has_gc
        disk = Disk.of(worker.root)
        self.policies: Sequence[GCPolicy] = (
            policies_of(config.gc_rules, disk)
            if config.gc_rules
            else default_policies(
                disk, reserved=config.reserved, max_used=config.max_used, min_free=config.min_free
            )
        )
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._is_over = threading.Event()

    def build_ended(self) -> None:
        """Say that there may be something to collect."""
        self._wanted.set()

    async def disk_usage(
        self, filters: Sequence[str], *, age_limit_s: float = 0.0
    ) -> list[UsageRecord]:
        """Give cache records, of `age_limit_s` only those that were not used for so long.

        Raises:
            InvalidFilterError: a filter cannot be understood.
        """
        found = await run_blocking(self._worker.disk_usage, _filters(filters))
        latest = time.time() - age_limit_s
        return [usage for usage in found if not age_limit_s or usage.last_used <= latest]

    async def prune(self, policy: GCPolicy) -> AsyncGenerator[UsageRecord, None]:
        """Delete what `policy` asks for; gives records as they go. Leaving early stops it.

        Raises:
            InvalidFilterError: a filter cannot be understood.
        """
        loop = asyncio.get_running_loop()
        gone: asyncio.Queue[UsageRecord | None] = asyncio.Queue()
        stop = threading.Event()

        def tell(usage: UsageRecord | None) -> None:
            loop.call_soon_threadsafe(gone.put_nowait, usage)

        def work() -> None:
            try:
                self._worker.upkeep.prune([policy], tell, is_cancelled=stop.is_set)
            finally:
                tell(None)

        task = asyncio.create_task(run_blocking(work))
        try:
            while (usage := await gone.get()) is not None:
                yield usage
            await task
        finally:
            stop.set()
            await asyncio.gather(task, return_exceptions=True)

    def stop(self) -> None:
        """Let a collection that runs end early; then `run` can be cancelled quickly."""
        self._is_over.set()

    async def run(self) -> None:
        """Collect garbage and clean the history until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._clean_history())
            if self._is_collecting:
                group.create_task(self._collect())

    async def _collect(self) -> None:
        await asyncio.sleep(_FIRST_S)
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                deleted = await run_blocking(
                    self._worker.upkeep.prune,
                    self.policies,
                    pause_s=_SLICE_PAUSE_S,
                    is_waiting=False,
                    is_cancelled=self._is_over.is_set,
                )
                if deleted:
                    size = sum(usage.size_bytes for usage in deleted)
                    log.info("gc: deleted %d records, %d bytes", len(deleted), size)
            except (OSError, ToranaError):
                log.exception("gc failed")
            await asyncio.sleep(_PAUSE_S)

    async def _clean_history(self) -> None:
        while True:
            try:
                self._history.clean_up()
            except (OSError, ToranaError):
                log.exception("cleaning the history failed")
            await asyncio.sleep(_HISTORY_S)


def prune_policy(request: pb.PruneRequest) -> GCPolicy:
    """Read a client's request to prune."""
    return GCPolicy(
        filters=_filters(request.filter),
        is_all=request.all,
        keep_duration_s=request.keepDuration / _NS,
        reserved_bytes=request.reservedSpace,
        max_used_bytes=request.maxUsedSpace,
        min_free_bytes=request.minFreeSpace,
    )


def _filters(filters: Sequence[str]) -> tuple[str, ...]:
    """Read a client's filters: an empty one, which buildx sends, matches everything."""
    return () if "" in filters else tuple(filters)
