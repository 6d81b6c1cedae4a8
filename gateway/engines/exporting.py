"""From a frontend's result to exports: evaluate every reference, then hand them to the exporters.

What all engines that run a worker of their own share; where an export writes is theirs to say.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from torana.core.cache.ref import ImmutableRef
from torana.core.errors import UserError
from torana.core.oci.platform import Platform
from torana.core.pool import run_blocking, tasks_together
from torana.core.records import dataclass
from torana.core.solver.job import Job
from torana.core.solver.keys import ExportableKey
from torana.core.solver.progress import WarningEvent
from torana.core.worker import Worker
from torana.gateway.bridge.vertexprogress import VertexProgress
from torana.gateway.client.client import Reference, Result
from torana.plugins.exporter import (
    ExportContext,
    Exporter,
    ExportResult,
    InlineCacheOf,
    Output,
    PlatformResult,
)

if TYPE_CHECKING:
    from torana.gateway.bridge.cacheimports import CacheImports
    from torana.gateway.engines.caching import CacheExports
    from torana.plugins.registry.access import RegistryAccess

NO_ATTESTATION: Final = "no {} is recorded: this engine makes no attestations"
_ATTESTATION: Final = re.compile("attest:(.+)|build-arg:BUILDKIT_ATTEST_(.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One export of a build: what does it, how, and where to (None: nowhere on the client)."""

    exporter: Exporter
    attrs: Mapping[str, str]
    output: Output | None = None
    registries: RegistryAccess | None = None  # to push to; None: as this process reaches them


async def export_result(
    worker: Worker,
    job: Job,
    result: Result,
    exports: Sequence[Export],
    options: Mapping[str, str],
    caches: CacheExports | None = None,
    imports: CacheImports | None = None,
) -> dict[str, str]:
    """Evaluate `result`, run `exports` at once and give their merged answers, later ones first.

    `options` are the frontend's; without exports the result is evaluated all the same. `caches` are
    exported when all exports are done, with what `imports` know.

    Raises:
        ToranaError: a step failed, or the result does not fit an exporter.
    """
    for kind in unmade_attestations(options, result):
        job.emit(WarningEvent(vertex=None, short=NO_ATTESTATION.format(kind)))
    async with evaluated(result) as refs:
        exported = _export_result(result, refs, worker.platform)
        if caches is None:
            return await _run_exports(worker, job, exported, exports, options, None)
        from torana.gateway.engines.caching import NO_IMAGE, InlineCache, export_caches

        keys = exportable_keys(result)
        inline = None
        if caches.inline is not None:
            inline = InlineCache(worker, keys, caches.inline)
        response = await _run_exports(
            worker, job, exported, exports, options, None if inline is None else inline.member
        )
        if inline is not None and not inline.was_asked:
            job.emit(WarningEvent(vertex=None, short=NO_IMAGE))
        return response | await export_caches(
            worker, job, keys, caches.places, [] if imports is None else imports.stores()
        )


def unmade_attestations(options: Mapping[str, str], result: Result) -> list[str]:
    """Name the kinds of attestations that a build asks for, or has, and that nobody exports."""
    found = set()
    for key, value in options.items():
        if (match := _ATTESTATION.fullmatch(key)) is not None:
            if "disabled=true" not in value.split(","):
                found.add((match[1] or match[2]).lower())
    if not found and any(result.attestations.values()):
        found = {"attestation of the frontend"}
    return sorted(found)


async def _run_exports(
    worker: Worker,
    job: Job,
    exported: ExportResult,
    exports: Sequence[Export],
    options: Mapping[str, str],
    inline: InlineCacheOf | None,
) -> dict[str, str]:
    if not exports:
        return {}
    epoch = options.get("build-arg:SOURCE_DATE_EPOCH")
    has_epoch = epoch is not None and (not epoch or epoch.isdigit())
    all_done = asyncio.Barrier(len(exports))

    async def run(number: int, export: Export) -> Mapping[str, str]:
        attrs = dict(export.attrs)
        if has_epoch:
            attrs.setdefault("source-date-epoch", epoch or "")
        with VertexProgress(job, export.exporter.title, f"{job.id}-export-{number}") as progress:
            context = ExportContext(
                content=worker.content,
                images=worker.images,
                layers=worker.layers,
                image_layers=worker.image_layers,
                platform=worker.platform,
                progress=progress,
                registries=export.registries,
                inline_cache=inline,
            )
            answer = await export.exporter.export(exported, attrs, export.output, context)
            await all_done.wait()
            for finish in context.finish:
                await finish()
            return answer

    async with tasks_together() as group:
        # What steps made goes to the disk meanwhile: it has to, before the build ends.
        group.create_task(run_blocking(worker.flush))
        tasks = [group.create_task(run(*numbered)) for numbered in enumerate(exports)]
    response: dict[str, str] = {}
    for task in tasks:
        response.update(task.result())
    return response


@asynccontextmanager
async def evaluated(result: Result) -> AsyncIterator[Mapping[str, ImmutableRef | None]]:
    """Solve all references at once; gives snapshots by platform id, the plain one as ``""``.

    They are held until it is left.
    """
    made: list[ImmutableRef] = []
    wanted = dict(result.refs) or {"": result.ref}

    async def one(reference: Reference | None) -> ImmutableRef | None:
        if reference is None:
            return None
        tree = await reference.tree()  # type: ignore[attr-defined]  # references are our own
        if tree is None:
            return None
        snapshot: ImmutableRef = await tree.snapshot()
        made.append(snapshot)
        return snapshot

    try:
        async with tasks_together() as group:
            tasks = {key: group.create_task(one(ref)) for key, ref in wanted.items()}
        yield {key: task.result() for key, task in tasks.items()}
    finally:
        for snapshot in made:
            await snapshot.release()


def exportable_keys(result: Result) -> Mapping[str, Sequence[ExportableKey]]:
    """Give what leads to the references of a result that was evaluated."""
    wanted = dict(result.refs) or {"": result.ref}
    return {
        id: reference.keys  # type: ignore[attr-defined]  # references are our own
        for id, reference in wanted.items()
        if reference is not None
    }


def _export_result(
    result: Result, refs: Mapping[str, ImmutableRef | None], default: Platform
) -> ExportResult:
    metadata = result.metadata
    parts = []
    for id_, platform in _platforms(metadata, default).items():
        suffix = f"/{id_}" if result.refs else ""
        if result.refs and id_ not in refs:
            raise UserError(f"result has no reference for platform {id_}")
        parts.append(
            PlatformResult(
                id=id_,
                platform=platform,
                ref=refs[id_ if result.refs else ""],
                config=metadata.get(f"containerimage.config{suffix}"),
                base_config=metadata.get(f"containerimage.base.config{suffix}"),
            )
        )
    return ExportResult(platforms=parts, is_map=bool(result.refs), metadata=metadata)


def _platforms(metadata: Mapping[str, bytes], default: Platform) -> dict[str, Platform]:
    """Read `refs.platforms`; without it the image config's platform counts, else the worker's."""
    raw = metadata.get("refs.platforms")
    if raw:
        entries = json.loads(raw)["Platforms"]
        return {entry["ID"]: Platform.from_dict(entry["Platform"]) for entry in entries}
    config = metadata.get("containerimage.config")
    platform = default
    if config:
        found = Platform.from_dict(json.loads(config))
        if found.os and found.architecture:
            platform = found.normalized()
    return {platform.format(): platform}
