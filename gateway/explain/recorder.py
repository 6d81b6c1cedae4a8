"""`record_build`: write down what became of the steps of a job."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from torana.core.cache.local import LocalTree
from torana.core.llb.codec import encode
from torana.core.loading import LLBVertex
from torana.core.oci.digest import Digest
from torana.core.pool import run_blocking
from torana.core.solver.job import Job
from torana.core.solver.progress import VertexEvent
from torana.core.solver.reporter import CANCELLED
from torana.core.solver.trace import VertexTrace, trace
from torana.gateway.explain.listing import Listings
from torana.gateway.explain.record import (
    BuildRecord,
    BuildRecords,
    InputRecord,
    Outcome,
    StepRecord,
)

log = logging.getLogger(__name__)


def project_of(options: Mapping[str, str], folders: Mapping[str, Path]) -> str:
    """Name what is built: where it comes from and which build file it is."""
    context = options.get("context") or str(folders.get("context", ""))
    return "\n".join([context, str(folders.get("dockerfile", "")), options.get("filename", "")])


async def record_build(
    job: Job,
    root: Path,
    *,
    project: str,
    options: Mapping[str, str],
    ignores_cache: bool,
    started: float,
) -> None:
    """Keep a record of a job in the store at `root`; before the job is discarded.

    A failure is logged: it must never fail a build.
    """
    traces = [each for each in trace(job) if isinstance(each.vertex.sys, LLBVertex)]
    record = BuildRecord(
        project=project,
        started=started,
        steps={each.vertex.digest: _step(each) for each in traces},
        options=options,
        ignores_cache=ignores_cache,
    )
    listings = {
        item.content: item.result.listing
        for each in traces
        for item in each.inputs
        if item.content and isinstance(item.result, LocalTree)
    }

    def write() -> None:
        kept = Listings(root)
        for digest, make in listings.items():
            kept.add(digest, make)
        BuildRecords(root).add(record)

    try:
        await run_blocking(write)
    except OSError as err:
        log.info("the build cannot be remembered for `torana explain`: %s", err)


def _step(each: VertexTrace) -> StepRecord:
    assert isinstance(each.vertex.sys, LLBVertex)
    event = each.event
    seconds = 0.0
    if event.started is not None and event.completed is not None:
        seconds = event.completed - event.started
    return StepRecord(
        digest=Digest(each.vertex.digest),
        name=each.vertex.name,
        op=encode(each.vertex.sys.op),
        outcome=_outcome(event),
        key=each.key,
        inputs=tuple(
            InputRecord(Digest(item.vertex.digest), item.selector, item.content)
            for item in each.inputs
        ),
        seconds=seconds,
        error=event.error,
    )


def _outcome(event: VertexEvent) -> Outcome:
    if event.started is None:
        return Outcome.SKIPPED
    if event.cached:
        return Outcome.CACHED
    if event.error == CANCELLED or event.completed is None:
        return Outcome.CANCELLED
    return Outcome.FAILED if event.error else Outcome.RAN
