"""`open_job`: a build on a worker: its solver, its job, and the client that frontends see.

What all engines that run a worker of their own share.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import field
from typing import Any, Final

from torana.core.llb.definition import Definition
from torana.core.ops.exec.services import SecretProvider, SSHProvider
from torana.core.ops.runtime import Runtime
from torana.core.ops.source import (
    FindSource,
    Source,
    SourceInstance,
    SourceProgress,
    SourceRequest,
    UnknownSchemeError,
)
from torana.core.records import dataclass
from torana.core.solver.job import Job
from torana.core.solver.progress import ProgressSink
from torana.core.worker import Worker
from torana.gateway.bridge.cacheimports import CacheImports, OpenCache
from torana.gateway.bridge.inprocess import InProcessClient
from torana.gateway.bridge.policies import SourcePolicies

_REBUILD: Final = "rebuild-on-secret"  # ids of secrets whose change runs steps again


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildParts:
    """What one build brings along; `session_id` also names its job."""

    session_id: str
    local: Source  # serves `local://`
    find_source: FindSource
    find_frontend: Callable[[str], Any]
    runtime: Runtime
    secrets: SecretProvider | None = None
    ssh: SSHProvider | None = None
    options: Mapping[str, str] = field(default_factory=dict)  # of its frontend
    inputs: Mapping[str, Definition] = field(default_factory=dict)
    entitlements: frozenset[str] = frozenset()
    ignore_cache: bool = False
    policies: SourcePolicies = field(default_factory=SourcePolicies)
    open_cache: OpenCache | None = None  # None: no caches are imported
    traceparent: str = ""  # W3C trace context of the client
    keeps_failures: bool = False  # containers can look at what failed steps left


@asynccontextmanager
async def open_job(
    worker: Worker, parts: BuildParts, progress: ProgressSink
) -> AsyncIterator[tuple[Job, InProcessClient]]:
    """Open a build; leaving it stops and releases all that it still holds."""

    def find_source(scheme: str) -> Source | None:
        return parts.local if scheme == "local" else parts.find_source(scheme)

    memo: dict[Any, Any] = {}

    def open_source(request: SourceRequest, progress: SourceProgress) -> SourceInstance:
        source = find_source(request.scheme)
        if source is None:
            raise UnknownSchemeError(f"unknown scheme {request.scheme}: not found")
        services = worker.source_services(progress, memo, parts.secrets, parts.ssh)
        return source.open(request, services)

    solver = worker.solver(
        find_source=find_source,
        runtime=parts.runtime,
        secrets=parts.secrets,
        ssh=parts.ssh,
        memo=memo,
        keeps_failures=parts.keeps_failures,
        entitlements=parts.entitlements,
        traceparent=parts.traceparent,
        keyed_secrets=frozenset(filter(None, parts.options.get(_REBUILD, "").split(","))),
    )
    job = solver.new_job(parts.session_id)
    job.subscribe(progress)
    imports = None
    if parts.open_cache is not None:
        imports = CacheImports(worker, job, parts.open_cache)
    client = InProcessClient(
        worker,
        job,
        options=parts.options,
        session_id=parts.session_id,
        find_frontend=parts.find_frontend,
        inputs=parts.inputs,
        ignore_cache=parts.ignore_cache,
        services=lambda: worker.services(
            parts.runtime, parts.secrets, parts.ssh, parts.traceparent
        ),
        entitlements=parts.entitlements,
        open_source=open_source,
        policies=parts.policies,
        imports=imports,
    )
    with worker.refs.lease.build():
        try:
            yield job, client
        finally:
            await client.close()
            await job.discard()
            if imports is not None:
                await imports.close()
            await solver.close()
            worker.build_ended()
