"""`Solving`: runs the builds that clients ask for, each from its first check to its kept record.

Spec: wire reference, control, "How buildctl really builds" and Solve.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from torana.core.errors import NotFoundError, ToranaError, UserError
from torana.core.ops.runtime import Runtime
from torana.core.pool import run_blocking
from torana.core.solver.progress import WarningEvent
from torana.core.worker import Worker
from torana.gateway.bridge.bridge import Bridge
from torana.gateway.bridge.cacheimports import OpenCache
from torana.gateway.bridge.inprocess import InProcessClient
from torana.gateway.bridge.policies import SourcePolicies
from torana.gateway.client.client import Reference, Result, SolveRequest
from torana.gateway.daemon.builds import Build, Builds
from torana.gateway.daemon.clientside import ClientSide
from torana.gateway.daemon.config import Config
from torana.gateway.daemon.frontends import SessionFrontends
from torana.gateway.daemon.history import History
from torana.gateway.daemon.policyverifier import SessionPolicy
from torana.gateway.daemon.record import ERROR_STATUS, STATUS_LOG, TRACE, Blob, BuildRecord
from torana.gateway.daemon.registries import TokenCache, registry_settings
from torana.gateway.daemon.solvemessages import WantedBuild
from torana.gateway.daemon.statusmessages import frame, responses
from torana.gateway.daemon.trace import Span, spans_of, to_json
from torana.gateway.engines.cachefaults import CacheFaults
from torana.gateway.engines.caching import AGAIN, CacheExports, open_reader
from torana.gateway.engines.exporting import Export, export_result
from torana.gateway.engines.jobs import BuildParts, open_job
from torana.gateway.engines.runtime import chosen_runtime
from torana.gateway.protocol.errors import status_of
from torana.gateway.protocol.status_pb2 import Status
from torana.gateway.runners.finder import FrontendFinder
from torana.gateway.runners.workers import FrontendWorkers
from torana.gateway.session.manager import SessionManager
from torana.plugins.cachebackend import CacheContext
from torana.plugins.exporter import Exporter, check_attributes
from torana.plugins.manager import PluginManager
from torana.plugins.registry.connection import Pools

log = logging.getLogger(__name__)

OnEnd = Callable[[BuildRecord, list[Span]], None]

# Metadata of a result that is kept with a build's record.
_KEPT_METADATA: Final = ("containerimage.config", "refs.platforms")


class InvalidFrontendError(UserError):
    """No frontend of that name may be run here."""

    code = "FRONTEND_INVALID"


class Solving:
    """Runs builds on one worker."""

    def __init__(
        self,
        config: Config,
        worker: Worker,
        plugins: PluginManager,
        builds: Builds,
        history: History,
        sessions: SessionManager,
        *,
        on_end: OnEnd,
    ) -> None:
        self._config = config
        self._worker = worker
        self._plugins = plugins
        self._builds = builds
        self._history = history
        self._sessions = sessions
        self._on_end = on_end
        self._registries = registry_settings(config)
        self._pools = Pools()
        self._tokens = TokenCache()
        self._frontends = SessionFrontends(sessions)

    async def run(self, wanted: WantedBuild) -> dict[str, str]:
        """Run a build and give the exporters' answer; cancelling it stops all it started.

        Raises:
            ToranaError: the request is wrong, or the build failed.
        """
        exporters = [self._plugins.exporter(export.type) for export in wanted.exports]
        for exporter, export in zip(exporters, wanted.exports, strict=True):
            check_attributes(exporter, export.attrs)
        build = self._builds.add(wanted.ref)
        record = BuildRecord(
            ref=wanted.ref,
            created=time.time(),
            frontend=wanted.frontend,
            frontend_attrs=wanted.options,
            exporters=tuple((export.type, export.attrs) for export in wanted.exports),
        )
        if not wanted.is_internal:
            self._history.start(record)
        status: Status | None = None
        try:
            async with (
                self._frontends.of(wanted.session_id) as workers,
                self._sessions.needed(wanted.session_id),
            ):
                metadata, response = await self._solve(wanted, build, exporters, workers)
            kept = {k: v.decode() for k in _KEPT_METADATA if (v := metadata.get(k))}
            record = replace(record, response={**kept, **response})
            return response
        except BaseException as err:
            status = status_of(err)
            record = replace(record, error=(status.code, status.message))
            raise
        finally:
            self._end(build, record, status, wanted)

    async def close(self) -> None:
        """Stop what is kept for builds to come; for when none run any more."""
        await self._frontends.close()

    async def _solve(
        self,
        wanted: WantedBuild,
        build: Build,
        exporters: Sequence[Exporter],
        workers: FrontendWorkers,
    ) -> tuple[Mapping[str, bytes], dict[str, str]]:
        """Give the result's metadata and the answer to the client."""
        faults = CacheFaults()
        try:
            return await self._attempt(wanted, build, exporters, workers, faults)
        except ToranaError:
            # A client that drives the build has to begin anew itself, unless it has returned.
            is_driven = not wanted.frontend and wanted.definition is None
            has_returned = build.bridge is not None and build.bridge.result is not None
            if not faults.is_any or (is_driven and not has_returned):
                raise
        build.progress.emit(WarningEvent(vertex=None, short=AGAIN))
        return await self._attempt(wanted, build, exporters, workers, None)

    async def _attempt(
        self,
        wanted: WantedBuild,
        build: Build,
        exporters: Sequence[Exporter],
        workers: FrontendWorkers,
        faults: CacheFaults | None,
    ) -> tuple[Mapping[str, bytes], dict[str, str]]:
        """Do it once; without `faults` no caches are imported."""
        client_side = ClientSide(
            self._sessions,
            wanted.session_id,
            self._plugins,
            self._registries,
            self._pools,
            self._tokens,
        )
        context = CacheContext(
            content=self._worker.content, layouts=client_side, registries=client_side.registries
        )
        caches = CacheExports.open(wanted.cache_exports, self._plugins, context)
        open_cache = (
            None if faults is None else partial(open_reader, self._plugins, context, faults)
        )
        parts = self._parts(wanted, client_side, open_cache, workers)
        async with open_job(self._worker, parts, build.progress) as (job, client):
            try:
                result = await self._result(wanted, build, client)
                exports = [
                    Export(
                        exporter=exporter,
                        attrs=wanted.exports[number].attrs,
                        output=await client_side.output(number),
                        registries=client_side.registries,
                    )
                    for number, exporter in enumerate(exporters)
                ]
                response = await export_result(
                    self._worker, job, result, exports, wanted.options, caches, client.imports
                )
                await run_blocking(self._worker.flush)
            finally:
                if build.bridge is not None:
                    await build.bridge.close()
        return result.metadata, response | _frontend_answers(result.metadata)

    def _parts(
        self,
        wanted: WantedBuild,
        client_side: ClientSide,
        open_cache: OpenCache | None,
        workers: FrontendWorkers,
    ) -> BuildParts:
        return BuildParts(
            session_id=wanted.session_id or wanted.ref,
            local=client_side.local,
            secrets=client_side.secrets,
            ssh=client_side.ssh,
            find_source=client_side.source,
            find_frontend=partial(self._find_frontend, workers=workers),
            runtime=self._runtime(),
            options=wanted.options,
            inputs=wanted.inputs,
            entitlements=wanted.entitlements,
            traceparent=wanted.traceparent,
            policies=SourcePolicies(
                tuple(wanted.source_policies),
                SessionPolicy(self._sessions, wanted.policy_session)
                if wanted.policy_session
                else None,
            ),
            open_cache=open_cache,
            keeps_failures=not wanted.frontend and wanted.definition is None,
        )

    def _runtime(self) -> Runtime:
        wanted = self._config.worker.runtime_name
        return chosen_runtime(self._worker.root, self._plugins, wanted=wanted)

    async def _result(self, wanted: WantedBuild, build: Build, client: InProcessClient) -> Result:
        if wanted.definition is not None:
            return await client.solve(
                SolveRequest(definition=wanted.definition, cache_imports=wanted.cache_imports)
            )
        if wanted.frontend:
            return await client.solve(
                SolveRequest(
                    frontend=wanted.frontend,
                    frontend_opt=wanted.options,
                    frontend_inputs=wanted.inputs,
                    cache_imports=wanted.cache_imports,
                )
            )
        if build.bridge is not None and build.bridge.result is not None:
            return await _solved_again(build.bridge.result, client)
        build.bridge = Bridge(client)
        return await build.bridge.returned()

    def _find_frontend(self, name: str, workers: FrontendWorkers) -> Any:
        frontend = self._config.frontends.get(name)
        if frontend is not None and not frontend.is_enabled:
            raise InvalidFrontendError(f"frontend {name} is disabled in configuration")
        allowed = None if frontend is None else frontend.allowed_repositories
        try:
            return FrontendFinder(self._plugins, allowed, workers=workers)(name)
        except NotFoundError as err:
            raise InvalidFrontendError(f"invalid frontend: {name}", hint=err.hint) from err

    def _end(
        self, build: Build, record: BuildRecord, status: Status | None, wanted: WantedBuild
    ) -> None:
        """Close a build in every case; its record is there before its progress ends."""
        record = replace(record, completed=time.time(), steps=build.progress.steps)
        spans = spans_of(record, build.progress.events, wanted.traceparent)
        try:
            if not wanted.is_internal:
                self._keep(build, record, status, spans)
        except (OSError, ToranaError):
            log.exception("record of build %s is lost", build.ref)
            self._history.forget(build.ref)
        finally:
            self._builds.end(build)
        self._on_end(record, spans)

    def _keep(
        self, build: Build, record: BuildRecord, status: Status | None, spans: list[Span]
    ) -> None:
        frames = (frame(response) for response in responses(build.progress.events))
        error = None if status is None else status.SerializeToString()
        self._history.complete(
            replace(
                record,
                logs=self._blob(STATUS_LOG, b"".join(frames)),
                trace=self._blob(TRACE, to_json(spans)),
                error_blob=None if error is None else self._blob(ERROR_STATUS, error),
            )
        )

    def _blob(self, media_type: str, data: bytes) -> Blob:
        digest = self._history.content.add(data)
        return Blob(media_type=media_type, digest=digest, size_bytes=len(data))


async def _solved_again(result: Result, client: InProcessClient) -> Result:
    """Give a result that was returned in an earlier attempt, to be solved by this one."""

    async def again(reference: Reference | None) -> Reference | None:
        definition = None if reference is None else await reference.definition()
        if definition is None:
            return None
        return (await client.solve(SolveRequest(definition=definition))).ref

    return replace(
        result,
        ref=await again(result.ref),
        refs={key: await again(reference) for key, reference in result.refs.items()},
        attestations={
            key: [replace(each, ref=await again(each.ref)) for each in found]
            for key, found in result.attestations.items()
        },
    )


def _frontend_answers(metadata: Mapping[str, bytes]) -> dict[str, str]:
    """Give what a frontend tells the client directly."""
    return {
        key: value.decode("utf-8", "replace")
        for key, value in metadata.items()
        if key.startswith("frontend.")
    }
