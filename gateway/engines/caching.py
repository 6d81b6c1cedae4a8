"""Exporting the cache of a build: to places of its own, and into the images that it makes.

Spec: the cache reference, sections 3, 7 and 10.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from torana.core.cache.layers import Layer, LayerForm
from torana.core.cache.pending import PendingRef
from torana.core.cache.snapshotref import SnapshotRef
from torana.core.errors import ToranaError
from torana.core.pool import tasks_together
from torana.core.records import dataclass
from torana.core.remotecache.backend import (
    MANIFEST_ANSWER,
    CacheReader,
    CacheWriter,
    InlineCacheWriter,
)
from torana.core.remotecache.chains import CacheChains, ExportedCache
from torana.core.solver.cache import StoreCache
from torana.core.solver.export import ExportMode, ExportOptions, export_keys
from torana.core.solver.job import Job
from torana.core.solver.keys import ExportableKey
from torana.core.solver.op import Result as SolverResult
from torana.core.worker import Worker
from torana.gateway.bridge.vertexprogress import VertexProgress
from torana.gateway.client.client import CacheImport
from torana.gateway.engines.cachefaults import CacheFaults, WatchedReader
from torana.plugins.booleans import parse_boolean
from torana.plugins.cachebackend import CacheContext, CacheOptionError
from torana.plugins.manager import PluginManager

log = logging.getLogger(__name__)

Keys = Mapping[str, Sequence[ExportableKey]]
"""What leads to each of a build's results, by platform id; ``""`` is the plain one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheExport:
    """One cache that a build leaves behind."""

    writer: CacheWriter
    mode: ExportMode = ExportMode.MIN
    ignores_errors: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheExports:
    """All of them; `inline` goes into the images of the build."""

    places: Sequence[CacheExport] = ()
    inline: InlineCacheWriter | None = None

    @classmethod
    def open(
        cls, wanted: Sequence[CacheImport], plugins: PluginManager, context: CacheContext
    ) -> CacheExports:
        """Find what writes the caches.

        Raises:
            CacheOptionError: attributes are wrong, or two exports are the same.
            UsageError: there is no such type.
        """
        places: list[CacheExport] = []
        inline: InlineCacheWriter | None = None
        for number, each in enumerate(wanted):
            is_same = any(_place(each) == _place(other) for other in wanted[:number])
            if is_same and each.type != "inline":
                raise CacheOptionError(f"duplicate cache exports [{each.type}]")
            backend = plugins.cache_backend(each.type, action="exporter")
            try:
                writer = backend.writer(each.attrs, context)
                ignores_errors = _ignores_errors(each.attrs)
            except ToranaError as err:
                raise CacheOptionError(
                    f"failed to configure {each.type} cache exporter: {err.message}",
                    hint=err.hint,
                ) from err
            if isinstance(writer, InlineCacheWriter):
                inline = inline or writer
                continue
            mode = ExportMode.MAX if each.attrs.get("mode") == "max" else ExportMode.MIN
            places.append(CacheExport(writer=writer, mode=mode, ignores_errors=ignores_errors))
        return cls(places=places, inline=inline)


NO_IMAGE: Final = (
    "the inline cache is not exported: it goes into an image, and this build exports none"
)
AGAIN: Final = "layers of an imported cache are bad: building again without imported caches"


def open_reader(
    plugins: PluginManager, context: CacheContext, faults: CacheFaults, wanted: CacheImport
) -> CacheReader:
    """Find what reads a cache; what turns out to be bad is noted in `faults`.

    Raises:
        CacheOptionError: attributes are wrong.
        UsageError: there is no such type.
    """
    backend = plugins.cache_backend(wanted.type, action="importer")
    try:
        return WatchedReader(backend.reader(wanted.attrs, context), faults)
    except ToranaError as err:
        raise CacheOptionError(
            f"failed to configure {wanted.type} cache importer: {err.message}", hint=err.hint
        ) from err


def _place(wanted: CacheImport) -> object:
    if wanted.type == "registry":
        return wanted.type, wanted.attrs.get("ref")
    return wanted.type, sorted(wanted.attrs.items())


def _ignores_errors(attrs: Mapping[str, str]) -> bool:
    text = attrs.get("ignore-error", "false")
    found = parse_boolean(text)
    if found is None:
        raise CacheOptionError(f"failed to parse ignore-error: not a boolean: `{text}`")
    return found


async def export_caches(
    worker: Worker,
    job: Job,
    keys: Keys,
    exports: Sequence[CacheExport],
    imported: Sequence[StoreCache],
) -> dict[str, str]:
    """Run exports at once; gives what their writers answer, later ones first.

    What `imported` caches know of the build goes along.

    Raises:
        ToranaError: one failed whose errors count.
    """
    answers: dict[int, Mapping[str, str]] = {}

    async def run(number: int, export: CacheExport) -> None:
        try:
            with VertexProgress(job, export.writer.title, f"{job.id}-cache-{number}") as progress:
                status = "preparing build cache for export"
                progress.status(status)
                stores = [StoreCache(worker.keys, worker.results), *imported]
                cache = await _exported(worker, keys, export.mode, export.writer.form, stores)
                progress.status(status, done=True)
                progress.status("sending cache export")
                answers[number] = await export.writer.write(cache, progress)
                progress.status("sending cache export", done=True)
        except (ToranaError, OSError) as err:
            if not export.ignores_errors:
                raise
            log.warning("cache export failed: %s", err)

    async with tasks_together() as group:
        for number, export in enumerate(exports):
            group.create_task(run(number, export))
    response: dict[str, str] = {}
    for number in sorted(answers):
        response.update(answers[number])
        if len(exports) > 1 and MANIFEST_ANSWER in answers[number]:
            # BuildKit has one answer for all; whoever keeps several apart finds them here.
            response[f"{MANIFEST_ANSWER}.{number}"] = answers[number][MANIFEST_ANSWER]
    return response


class InlineCache:
    """Gives images their cache."""

    def __init__(self, worker: Worker, keys: Keys, writer: InlineCacheWriter) -> None:
        self._worker = worker
        self._keys = keys
        self._writer = writer
        self.was_asked = False  # whether anything had a place for it

    async def member(
        self, platform_id: str, layers: Sequence[Layer], form: LayerForm
    ) -> tuple[str, str] | None:
        """Give what goes into the config of a platform's image with `layers`, base first."""
        self.was_asked = True
        keys = self._keys.get(platform_id, self._keys.get("", ()))
        # Its layers are those of the image; what other builds know would only make it longer.
        cache = await _exported(self._worker, {"": keys}, ExportMode.MIN, form, [])
        return self._writer.member(cache, layers)


async def _exported(
    worker: Worker,
    keys: Keys,
    mode: ExportMode,
    form: LayerForm,
    stores: Sequence[StoreCache],
) -> ExportedCache:
    chains = CacheChains()
    options = ExportOptions(mode=mode, remotes=_remotes(worker, form), stores=stores)
    for each in keys.values():
        await export_keys(each[:1], chains, options)  # all keys have the whole chain
    return chains.exported()


def _remotes(
    worker: Worker, form: LayerForm
) -> Callable[[SolverResult | None, bool], Awaitable[Sequence[Sequence[Layer]]]]:
    async def remotes(result: SolverResult | None, is_at_hand: bool) -> Sequence[Sequence[Layer]]:
        if not isinstance(result, SnapshotRef | PendingRef):
            return []  # an empty tree, or a folder of the client
        if is_at_hand:
            layers = await worker.layers.layers_at_hand(result, form)
            return [] if layers is None else [layers]
        return [await worker.layers.layers(result, replace(form, is_lazy=True))]

    return remotes
