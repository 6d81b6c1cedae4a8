"""`EmbeddedEngine`: builds in this process, without a daemon."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from torana.core.cache.ref import ImmutableRef
from torana.core.errors import UserError
from torana.core.llb import ops as o
from torana.core.llb.definition import Definition
from torana.core.oci.digest import Digest
from torana.core.oci.platform import Platform
from torana.core.patterns import PatternMatcher
from torana.core.pool import run_blocking
from torana.core.solver.progress import ProgressSink, StatusEvent, VertexEvent, WarningEvent
from torana.core.solver.solver import Job
from torana.core.worker import ChosenRuntime, Worker
from torana.gateway.bridge.inprocess import InProcessClient
from torana.gateway.client.client import Reference, Result, SolveRequest
from torana.gateway.engines.engine import (
    BuildRequest,
    BuildResult,
    ExportRequest,
    ReadTree,
    SecretSource,
)
from torana.gateway.engines.output import ClientOutput
from torana.plugins.exporter import ExportContext, ExportResult, PlatformResult
from torana.plugins.manager import PluginManager


class EmbeddedEngine:
    """One worker in this process. Use it as `async with EmbeddedEngine.open(root) as engine`."""

    def __init__(self, worker: Worker, plugins: PluginManager) -> None:
        self._worker = worker
        self._plugins = plugins

    @classmethod
    @asynccontextmanager
    async def open(cls, root: Path) -> AsyncIterator[EmbeddedEngine]:
        """Open a store; must come before anything starts a thread.

        Raises:
            UnsupportedError: neither root nor user namespaces are to be had.
        """
        os.umask(0o022)
        engine = cls(Worker.open(root), PluginManager())
        try:
            yield engine
        finally:
            await engine.close()

    async def close(self) -> None:
        await run_blocking(self._worker.close)

    async def build(self, request: BuildRequest, progress: ProgressSink) -> BuildResult:
        # Exporters are looked up first: a wrong one should not cost a build.
        exporters = [self._plugins.exporter(export.type) for export in request.exports]
        async with self._job(request, progress) as (job, client):
            result = await self._run(request, client)
            refs = await self._evaluate(result)
            response: dict[str, str] = {}
            if request.exports:
                exported = await self._export_result(result, refs)
                for number, exporter in enumerate(exporters):
                    answer = await self._export(
                        exporter, request.exports[number], exported, job, number, request
                    )
                    response.update(answer)
            await run_blocking(self._worker.refs.flush)
            trees = _read_trees(request, client.definitions)
            return BuildResult(response=response, reproducible_from=trees)

    async def translate(self, request: BuildRequest) -> Definition | None:
        """Run the frontend only and give the definition of its result, None for scratch.

        Raises:
            UserError: the result has several platforms.
        """
        async with self._job(request, _Nowhere()) as (_, client):
            result = await self._run(request, client)
            if len(result.refs) > 1:
                raise UserError("the result has several platforms", hint="name one with --platform")
            ref = next(iter(result.refs.values()), result.ref)
            return None if ref is None else await ref.definition()

    @asynccontextmanager
    async def _job(
        self, request: BuildRequest, progress: ProgressSink
    ) -> AsyncIterator[tuple[Job, InProcessClient]]:
        session_id = secrets.token_hex(12)
        solver = self._worker.solver(
            folders=request.local_dirs,
            session_id=session_id,
            find_source=self._plugins.source,
            runtime=ChosenRuntime(self._choose_runtime),
            secrets=_Secrets(request.secrets),
        )
        job = solver.new_job(session_id)
        job.subscribe(progress)
        client = InProcessClient(
            self._worker,
            job,
            options=request.options,
            session_id=session_id,
            find_frontend=self._plugins.frontend,
            ignore_cache=request.no_cache,
        )
        try:
            yield job, client
        finally:
            await job.discard()
            await solver.close()

    async def _run(self, request: BuildRequest, client: InProcessClient) -> Result:
        if request.definition is not None:
            return await client.solve(SolveRequest(definition=request.definition))
        result: Result = await self._plugins.frontend(request.frontend).build(client)
        return result

    def _choose_runtime(self) -> asyncio.Task[Any]:
        from torana.plugins.runtimes.choose import choose_runtime

        async def choose() -> Any:
            folder = self._worker.root / "executor"
            choice = await choose_runtime(
                self._plugins.runtimes(), folder, wanted=os.environ.get("TORANA_RUNTIME", "")
            )
            return choice.runtime

        return asyncio.get_running_loop().create_task(choose())

    async def _evaluate(self, result: Result) -> Mapping[str, ImmutableRef | None]:
        """Solve all references at once; gives snapshots by platform id, the plain one as ``""``."""
        wanted = dict(result.refs) or {"": result.ref}

        async def one(reference: Reference | None) -> ImmutableRef | None:
            if reference is None:
                return None
            tree = await reference.tree()  # type: ignore[attr-defined]  # references are our own
            return None if tree is None else await tree.snapshot()

        try:
            async with asyncio.TaskGroup() as group:
                tasks = {key: group.create_task(one(ref)) for key, ref in wanted.items()}
        except BaseExceptionGroup as failed:
            raise _first(failed)  # noqa: B904  # `from` would replace its own cause
        return {key: task.result() for key, task in tasks.items()}

    async def _export_result(
        self, result: Result, refs: Mapping[str, ImmutableRef | None]
    ) -> ExportResult:
        metadata = result.metadata
        platforms = _platforms(metadata, self._worker.platform)
        parts = []
        for id_, platform in platforms.items():
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

    async def _export(
        self,
        exporter: Any,
        wanted: ExportRequest,
        result: ExportResult,
        job: Job,
        number: int,
        request: BuildRequest,
    ) -> Mapping[str, str]:
        attrs = dict(wanted.attrs)
        epoch = request.options.get("build-arg:SOURCE_DATE_EPOCH")
        if epoch is not None and (not epoch or epoch.isdigit()):
            attrs.setdefault("source-date-epoch", epoch)
        output = None if wanted.dest is None else ClientOutput(wanted.dest)
        progress = _ExportProgress(job, exporter.title, number)
        with progress:
            context = ExportContext(
                content=self._worker.content,
                images=self._worker.images,
                layers=self._worker.layers,
                progress=progress,
            )
            answer: Mapping[str, str] = await exporter.export(result, attrs, output, context)
        return answer


class _Nowhere:
    def emit(self, event: object) -> None:
        """Ignore the event."""


class _Secrets:
    """Secrets of the command line, read when a step asks."""

    def __init__(self, sources: Sequence[SecretSource]) -> None:
        self._sources = {source.id: source for source in sources}

    async def get(self, id: str) -> bytes | None:
        source = self._sources.get(id)
        if source is None:
            return None
        if source.env is not None:
            return os.environb.get(os.fsencode(source.env))
        assert source.file is not None
        return await run_blocking(source.file.read_bytes)


class _ExportProgress:
    """The vertex of one export."""

    def __init__(self, job: Job, title: str, number: int) -> None:
        self._job = job
        self._title = title
        self._digest = Digest.of_text(f"{job.id}-export-{number}")
        self._started = 0.0
        self._statuses: dict[str, float] = {}

    def __enter__(self) -> _ExportProgress:
        self._started = time.time()
        self._emit(None, "")
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        text = "" if error is None else str(error) or type(error).__name__
        if isinstance(error, OSError) and error.strerror:
            text = error.strerror.lower()
        elif isinstance(error, asyncio.CancelledError):
            text = "context canceled"
        self._emit(time.time(), text)

    def _emit(self, completed: float | None, error: str) -> None:
        self._job.emit(
            VertexEvent(
                digest=self._digest,
                name=self._title,
                started=self._started,
                completed=completed,
                error=error,
            )
        )

    def status(self, id: str, *, current: int = 0, total: int = 0, done: bool = False) -> None:
        now = time.time()
        started = self._statuses.setdefault(id, now)
        self._job.emit(
            StatusEvent(
                id=id,
                vertex=self._digest,
                current=current,
                total=total,
                timestamp=now,
                started=started,
                completed=now if done else None,
            )
        )

    def warn(self, text: str) -> None:
        self._job.emit(WarningEvent(vertex=self._digest, short=text))


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    """Give the failure that a group was cancelled for."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


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
