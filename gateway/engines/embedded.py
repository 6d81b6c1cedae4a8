"""`EmbeddedEngine`: builds in this process, without a daemon."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from torana.core.errors import ToranaError, UserError
from torana.core.llb import ops as o
from torana.core.llb.definition import Definition
from torana.core.llb.policy import Policy
from torana.core.ops.source import Source
from torana.core.patterns import PatternMatcher
from torana.core.pool import run_blocking
from torana.core.solver.job import Job
from torana.core.solver.progress import ProgressSink
from torana.core.worker import Worker
from torana.gateway.bridge.cacheimports import OpenCache
from torana.gateway.bridge.inprocess import InProcessClient
from torana.gateway.bridge.policies import SourcePolicies
from torana.gateway.client.client import Result, SolveRequest
from torana.gateway.engines import collection
from torana.gateway.engines.agents import SshAgents
from torana.gateway.engines.clientsecrets import ClientSecrets
from torana.gateway.engines.engine import (
    BuildRequest,
    BuildResult,
    ExportRequest,
    NoProgress,
    ReadTree,
)
from torana.gateway.engines.exporting import Export, export_result
from torana.gateway.engines.jobs import BuildParts, open_job
from torana.gateway.engines.network import LazyNetwork, wanted_network
from torana.gateway.engines.output import ClientOutput
from torana.gateway.engines.picking import pick
from torana.gateway.engines.runtime import chosen_runtime
from torana.gateway.explain.recorder import project_of, record_build
from torana.gateway.runners.finder import FrontendFinder
from torana.gateway.runners.workers import FrontendWorkers
from torana.plugins.exporter import Output, check_attributes
from torana.plugins.manager import PluginManager

if TYPE_CHECKING:
    from torana.gateway.engines.embeddedcaches import BuildCaches


def open_root(root: Path, plugins: PluginManager | None = None) -> Worker:
    """Open a store with the snapshotter that `TORANA_SNAPSHOTTER` names; see `Worker.open`."""
    name = os.environ.get("TORANA_SNAPSHOTTER") or "auto"
    return Worker.open(root, snapshotter=(plugins or PluginManager()).snapshotter(name))


class EmbeddedEngine:
    """One worker in this process. Use it as `async with EmbeddedEngine.open(root) as engine`."""

    def __init__(self, worker: Worker, plugins: PluginManager) -> None:
        self._worker = worker
        self._plugins = plugins
        self._frontends = FrontendWorkers()
        self._has_built = False
        self._was_interrupted = False

    @classmethod
    @asynccontextmanager
    async def open(
        cls, root: Path, plugins: PluginManager | None = None
    ) -> AsyncIterator[EmbeddedEngine]:
        """Open a store; must come before anything starts a thread.

        Raises:
            UnsupportedError: neither root nor user namespaces are to be had.
            UsageError: `TORANA_GC` cannot be understood.
        """
        os.umask(0o022)
        collection.limits()
        plugins = plugins or PluginManager()
        worker = open_root(root, plugins)
        worker.network = LazyNetwork(root, wanted_network(), None)
        engine = cls(worker, plugins)
        try:
            yield engine
        except asyncio.CancelledError:
            engine._was_interrupted = True
            raise
        finally:
            await engine.close()

    async def close(self) -> None:
        await self._frontends.close()
        await run_blocking(self._close)

    def _close(self) -> None:
        # Who interrupts wants nothing to run any more: what is left waits for the next build.
        may_collect = self._has_built and not self._was_interrupted
        is_due = may_collect and collection.is_due(self._worker)
        self._worker.close()
        if is_due:
            collection.start(self._worker.root)

    async def build(self, request: BuildRequest, progress: ProgressSink) -> BuildResult:
        # Exporters are looked up first: a wrong one should not cost a build.
        exports = [self._export(export) for export in request.exports]
        caches: BuildCaches | None = None
        if request.cache_imports or request.cache_exports:
            from torana.gateway.engines.embeddedcaches import BuildCaches

            caches = BuildCaches.open(request, self._worker, self._plugins, progress)
            request = caches.request
            try:
                return await self._build(request, progress, exports, caches, caches.open_reader)
            except ToranaError:
                if not caches.again(progress):
                    raise
        return await self._build(request, progress, exports, caches, None)

    async def _build(
        self,
        request: BuildRequest,
        progress: ProgressSink,
        exports: Sequence[Export],
        caches: BuildCaches | None,
        open_cache: OpenCache | None,
    ) -> BuildResult:
        started = time.time()
        finder = self._finder(request)
        async with self._job(request, progress, finder, open_cache) as (job, client):
            try:
                result = await self._run(request, client, finder)
                response = await export_result(
                    self._worker,
                    job,
                    result,
                    exports,
                    request.options,
                    None if caches is None else caches.exports,
                    client.imports,
                )
                if caches is not None:
                    await run_blocking(caches.client.finish, response)
                await run_blocking(self._worker.flush)
            finally:
                self._has_built = True
                await self._record(request, job, started)
            # Another version of a plugin may make something else of the same file.
            trees = None if finder.foreign else _read_trees(request, client.definitions)
            return BuildResult(response=response, reproducible_from=trees)

    async def _record(self, request: BuildRequest, job: Job, started: float) -> None:
        """Leave what `torana explain` reads."""
        options = request.options
        await record_build(
            job,
            self._worker.root,
            project=project_of(options, request.local_dirs),
            options={key: options[key] for key in ("target", "platform") if key in options},
            ignores_cache=request.no_cache or options.get("no-cache") == "",
            started=started,
        )

    async def translate(self, request: BuildRequest) -> Definition | None:
        """Run the frontend only and give the definition of its result, None for scratch.

        Raises:
            UserError: the result has several platforms.
        """
        finder = self._finder(request)
        async with self._job(request, NoProgress(), finder) as (_, client):
            result = await self._run(request, client, finder)
            if len(result.refs) > 1:
                raise UserError("the result has several platforms", hint="name one with --platform")
            ref = next(iter(result.refs.values()), result.ref)
            return None if ref is None else await ref.definition()

    async def ask(self, request: BuildRequest, progress: ProgressSink) -> Mapping[str, bytes]:
        """Let the frontend answer the subrequest that the option `requestid` names.

        Gives the metadata of the answer: `result.json`, `result.txt`, `result.statuscode`.
        """
        finder = self._finder(request)
        async with self._job(request, progress, finder) as (_, client):
            return dict((await self._run(request, client, finder)).metadata)

    def _job(
        self,
        request: BuildRequest,
        progress: ProgressSink,
        finder: FrontendFinder,
        open_cache: OpenCache | None = None,
    ) -> AbstractAsyncContextManager[tuple[Job, InProcessClient]]:
        session_id = secrets.token_hex(12)

        def find_source(scheme: str) -> Source | None:
            if scheme in ("oci-layout", "oci-layout+blob") and request.oci_layouts:
                return _layout_source(scheme, request.oci_layouts)
            source = self._plugins.source(scheme)
            if scheme == "git" and request.oci_layouts:
                return _with_bundles(source, request.oci_layouts)
            return source

        parts = BuildParts(
            session_id=session_id,
            local=self._worker.local_source(
                request.local_dirs, session_id, has_file_index=request.has_file_index
            ),
            find_source=find_source,
            find_frontend=finder,
            runtime=chosen_runtime(self._worker.root, self._plugins),
            secrets=ClientSecrets(request.secrets, self._plugins.secret_reader),
            ssh=SshAgents(request.agents),
            options=request.options,
            entitlements=request.allow,
            ignore_cache=request.no_cache,
            policies=SourcePolicies(_policies(request)),
            open_cache=open_cache,
        )
        return open_job(self._worker, parts, progress)

    def _finder(self, request: BuildRequest) -> FrontendFinder:
        return FrontendFinder(
            self._plugins,
            rules=request.rules,
            is_isolated=request.is_isolated,
            workers=self._frontends,
        )

    def _export(self, wanted: ExportRequest) -> Export:
        exporter = self._plugins.exporter(wanted.type)
        check_attributes(exporter, wanted.attrs)
        return Export(
            exporter=exporter,
            attrs=wanted.attrs,
            output=_output(wanted),
        )

    async def _run(
        self, request: BuildRequest, client: InProcessClient, finder: FrontendFinder
    ) -> Result:
        if request.definition is not None:
            return await client.solve(
                SolveRequest(definition=request.definition, cache_imports=request.cache_imports)
            )
        if request.record is not None:
            from torana.gateway.engines.recorded import recorded_frontend

            frontend = recorded_frontend(request, finder)
        elif (picked := pick(request)) is not None:
            return await picked.build(client)
        else:
            frontend = finder(request.frontend)
        result: Result = await frontend.build(client)
        return result


def _layout_source(scheme: str, layouts: Mapping[str, Path]) -> Source:
    from torana.plugins.sources.blob import LayoutBlobSource
    from torana.plugins.sources.layout import LayoutSource, of_folders

    find = of_folders(layouts)
    return LayoutSource(find) if scheme == "oci-layout" else LayoutBlobSource(find)


def _with_bundles(source: Source | None, layouts: Mapping[str, Path]) -> Source | None:
    """Let the built-in git source take bundles from layouts, too."""
    from torana.plugins.sources.bloborigins import BlobOrigins
    from torana.plugins.sources.git import GitSource
    from torana.plugins.sources.layout import of_folders

    if not isinstance(source, GitSource):
        return source
    return GitSource(BlobOrigins(find_layout=of_folders(layouts)))


def _output(wanted: ExportRequest) -> Output | None:
    if wanted.dest is not None:
        return ClientOutput(wanted.dest)
    if wanted.type != "docker":
        return None
    from torana.gateway.engines.dockerload import DockerLoad

    return DockerLoad()


def _policies(request: BuildRequest) -> tuple[Policy, ...]:
    own = () if request.source_policy is None else (request.source_policy,)
    return (*own, *request.policies)


def _read_trees(request: BuildRequest, definitions: Sequence[Definition]) -> list[ReadTree] | None:
    """Give the folders that sources read, None if a source is no folder."""
    trees = []
    for definition in definitions:
        for op in definition.decoded().values():
            if not isinstance(op.kind, o.SourceOp):
                continue
            scheme, _, name = op.kind.identifier.partition("://")
            folder = request.local_dirs.get(name)
            if scheme != "local" or folder is None:
                return None
            attrs = op.kind.attrs
            if "local.includepattern" in attrs:
                return None
            paths = tuple(json.loads(attrs.get("local.followpaths", "[]")))
            if any(set("*?[\\") & set(path) for path in paths):
                paths = ()
            excluded = json.loads(attrs.get("local.excludepatterns", "[]"))
            pruned = PatternMatcher(excluded).literals() or frozenset()
            trees.append(ReadTree(root=folder, paths=paths, pruned=pruned))
    return trees
