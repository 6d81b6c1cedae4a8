"""`CacheImports`: the caches that one build imports, each read once.

Spec: the cache reference, sections 9 to 11.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from functools import partial

from torana.core.errors import ToranaError
from torana.core.remotecache.backend import CacheReader
from torana.core.remotecache.imported import FoundCache, ImportedCache
from torana.core.solver.cache import CacheSource, StoreCache
from torana.core.solver.job import Job
from torana.core.worker import Worker
from torana.gateway.bridge.vertexprogress import VertexProgress
from torana.gateway.client.client import CacheImport

log = logging.getLogger(__name__)

OpenCache = Callable[[CacheImport], CacheReader]
"""Finds what reads a cache; raises a `ToranaError` if its options are wrong."""


class CacheImports:
    """Lives as long as its build."""

    def __init__(self, worker: Worker, job: Job, open_cache: OpenCache) -> None:
        self._worker = worker
        self._job = job
        self._open = open_cache
        self._sources: dict[str, ImportedCache] = {}

    def sources(self, wanted: Sequence[CacheImport]) -> tuple[CacheSource, ...]:
        """Give sources for the solver; nothing is read before it asks."""
        found = {import_id(each): each for each in wanted}
        for id, each in found.items():
            if id not in self._sources:
                progress = VertexProgress(
                    self._job, f"importing cache manifest from {id}", f"{self._job.id}-import-{id}"
                )
                self._sources[id] = ImportedCache(
                    id,
                    partial(self._read, each, id, progress),
                    image_layers=self._worker.image_layers,
                    content=self._worker.content,
                    warn=progress.warn,
                )
        return tuple(self._sources[id] for id in found)

    async def _read(
        self, wanted: CacheImport, id: str, progress: VertexProgress
    ) -> Sequence[FoundCache]:
        """Read a cache; whatever goes wrong there, the build goes on."""
        try:
            with progress:
                return await self._open(wanted).read(progress)
        except (ToranaError, OSError) as err:
            reason = err.message if isinstance(err, ToranaError) else str(err)
        except Exception as err:
            log.exception("cache import from %s failed", id)
            reason = f"{type(err).__name__}: {err}"
        progress.warn(f"cache is not imported from {id}: {reason}")
        return []

    def stores(self) -> list[StoreCache]:
        """Give what was found, for exports: it knows more ways to the same results."""
        return [source.store for source in self._sources.values()]

    async def close(self) -> None:
        """Stop reading."""
        for source in self._sources.values():
            await source.close()


def import_id(wanted: CacheImport) -> str:
    """Name a cache: imports with the same name are one.

    Spec: the cache reference, section 11.
    """
    if wanted.type == "registry" and wanted.attrs.get("ref"):
        return wanted.attrs["ref"]
    text = json.dumps([wanted.type, sorted(wanted.attrs.items())])
    return f"{wanted.type}:{int(hashlib.sha256(text.encode()).hexdigest()[:16], 16)}"
