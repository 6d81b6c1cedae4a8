"""`InProcessClient`: the gateway for frontends that run in this process.

Definitions are checked at once and solved lazily; frontends asked for by name are run here, too.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from torana.core.cache.ref import Tree
from torana.core.errors import NotFoundError, SourceRange, ToranaError, UnsupportedError, UserError
from torana.core.llb.codec import encode
from torana.core.llb.definition import Definition
from torana.core.llb.ops import NetMode, SourceOp
from torana.core.loading import LLBVertex, emptied_caches, load
from torana.core.oci.digest import Digest
from torana.core.oci.platform import Platform
from torana.core.oci.reference import parse_reference
from torana.core.ops.exec.services import StepServices
from torana.core.ops.source import (
    ImageSourceInstance,
    SourceInstance,
    SourceProgress,
    SourceRequest,
)
from torana.core.solver.cache import CacheSource
from torana.core.solver.failure import FailedSolve, SolveError
from torana.core.solver.job import Job
from torana.core.solver.keys import ExportableKey
from torana.core.solver.op import Result as SolverResult
from torana.core.solver.progress import WarningEvent
from torana.core.solver.vertex import Edge
from torana.core.worker import Worker
from torana.gateway.bridge.cacheimports import CacheImports
from torana.gateway.bridge.capabilities import ENGINE_LLB_CAPS, GATEWAY_CAPS
from torana.gateway.bridge.policies import SourcePolicies
from torana.gateway.bridge.references import LazyReference
from torana.gateway.bridge.vertexprogress import VertexProgress
from torana.gateway.client import client as c

if TYPE_CHECKING:
    from torana.gateway.bridge.containers import InProcessContainer
    from torana.gateway.client.containers import ContainerSpec

_IMAGE = "docker-image"
_LAYOUT = "oci-layout"

OpenSource = Callable[[SourceRequest, SourceProgress], SourceInstance]
"""Opens a source for a build, to be asked rather than solved."""


class _LookUp:
    """Progress of a look-up: its vertex says it all, but for output."""

    def __init__(self, log: Callable[[int, bytes], None]) -> None:
        self.log = log

    def status(
        self, id: str, *, name: str = "", current: int = 0, total: int = 0, done: bool = False
    ) -> None:
        """Show nothing."""


class InProcessClient:
    """Answers one frontend on behalf of one job."""

    def __init__(
        self,
        worker: Worker,
        job: Job,
        *,
        options: Mapping[str, str],
        session_id: str,
        find_frontend: Callable[[str], Any],
        inputs: Mapping[str, Definition] | None = None,
        ignore_cache: bool = False,
        services: Callable[[], StepServices] | None = None,
        entitlements: frozenset[str] = frozenset(),
        open_source: OpenSource | None = None,
        policies: SourcePolicies | None = None,
        imports: CacheImports | None = None,
        parent: InProcessClient | None = None,
    ) -> None:
        self._worker = worker
        self._job = job
        self._options = dict(options)
        self._session_id = session_id
        self._find_frontend = find_frontend
        self._inputs = dict(inputs or {})
        self._ignore_cache = ignore_cache
        self._services = services
        self._entitlements = entitlements
        self._open_source = open_source
        self.imports = imports
        self._containers: set[InProcessContainer] = set()
        self._policies = policies or SourcePolicies()
        self._parent = parent
        # References outlive the frontend that made them, and are solved late: the outermost client
        # keeps all results.
        self._results: list[SolverResult] = [] if parent is None else parent._results
        # What failed steps left, by id.
        self._failed: dict[str, Tree] = {} if parent is None else parent._failed
        self.definitions: list[Definition] = []  # everything that was asked to be solved

    @property
    def options(self) -> Mapping[str, str]:
        return self._options

    @property
    def session_id(self) -> str:
        return self._session_id

    @property
    def workers(self) -> Sequence[c.Worker]:
        return [c.Worker(id="embedded", platforms=[self._worker.platform])]

    @property
    def llb_caps(self) -> frozenset[str]:
        return ENGINE_LLB_CAPS

    @property
    def gateway_caps(self) -> frozenset[str]:
        return GATEWAY_CAPS

    async def inputs(self) -> Mapping[str, Definition]:
        return self._inputs

    async def solve(self, request: c.SolveRequest) -> c.Result:
        """Check and remember a definition, or run a frontend.

        Raises:
            UserError: both a definition and a frontend were given.
        """
        if request.definition is not None and request.definition.ops and request.frontend:
            raise UserError("cannot solve with both Definition and Frontend specified")
        if request.frontend:
            return await self._run_frontend(request)
        if request.definition is None or not request.definition.ops:
            return c.Result()
        definition = request.definition
        policies = self._policies.also(request.source_policies)
        caches = self.imports.sources(request.cache_imports) if self.imports else ()
        edge = self._load(definition, None, caches)
        self.definitions.append(definition)

        async def build(
            made_by: Definition,
        ) -> tuple[SolverResult | None, Sequence[ExportableKey]]:
            wanted = edge
            if changes := await policies.changes(definition, self.look_up):
                wanted = self._load(definition, changes, caches)
            await self._empty_caches(definition, wanted)
            try:
                found = await self._job.solve(wanted)
            except SolveError as err:
                self._keep_failure(err)
                raise
            result = None if found.result is None else found.result.clone()
            if result is not None:
                self._results.append(result)
            return result, found.keys

        reference = LazyReference(request.definition, build)
        if request.evaluate:
            await reference.evaluate()
        return c.Result(ref=reference)

    def _load(
        self,
        definition: Definition,
        changes: Mapping[Digest, SourceOp] | None = None,
        caches: tuple[CacheSource, ...] = (),
    ) -> Edge:
        return load(
            definition,
            ignore_cache=self._ignore_cache,
            entitlements=self._entitlements,
            sources=changes,
            cache_sources=caches,
        )

    async def _empty_caches(self, definition: Definition, edge: Edge) -> None:
        """Let cache mounts of steps that ignore the cache start anew."""
        marked = (each.ignore_cache for each in definition.metadata.values())
        if self._ignore_cache or any(marked):
            await self._worker.empty_caches(emptied_caches(edge))

    async def _run_frontend(self, request: c.SolveRequest) -> c.Result:
        frontend = self._find_frontend(request.frontend)
        client = InProcessClient(
            self._worker,
            self._job,
            options=request.frontend_opt,
            session_id=self._session_id,
            find_frontend=self._find_frontend,
            inputs=request.frontend_inputs,
            ignore_cache=self._ignore_cache,
            services=self._services,
            entitlements=self._entitlements,
            open_source=self._open_source,
            policies=self._policies.also(request.source_policies),
            imports=self.imports,
            parent=self,
        )
        try:
            result: c.Result = await frontend.build(client)
        except ToranaError as err:
            image = request.frontend_opt.get("source", "")
            err.frontends = (*err.frontends, (request.frontend, image))
            raise
        finally:
            await client.close()
        self.definitions += client.definitions
        return result

    def _keep_failure(self, error: SolveError) -> None:
        """Take over what a failed step left, and name it."""
        from torana.core.ops.exec.errors import ExecError

        cause = error.__cause__
        if not isinstance(cause, ExecError) or cause.left is None or error.failed is not None:
            return
        left, cause.left = cause.left, None
        ids = [[self._name_failed(t) for t in trees] for trees in (left.inputs, left.mounts)]
        assert isinstance(error.vertex.sys, LLBVertex)
        error.failed = FailedSolve(
            input_ids=tuple(ids[0]),
            mount_ids=tuple(ids[1]),
            op=encode(error.vertex.sys.op),
            description=error.vertex.options.description,
        )

    def _name_failed(self, tree: Tree | None) -> str:
        if tree is None:
            return ""
        id = secrets.token_hex(13)[:25]
        self._failed[id] = tree
        self._results.append(tree)
        return id

    async def new_container(self, spec: ContainerSpec) -> InProcessContainer:
        from torana.gateway.bridge.containers import InProcessContainer

        if self._services is None:
            raise UnsupportedError("containers of frontends are not supported here")
        if spec.network is NetMode.HOST and "network.host" not in self._entitlements:
            raise UserError(
                "network.host is not allowed", hint="grant it with `--allow network.host`"
            )
        trees: list[Tree | None] = []
        for mount in spec.mounts:
            if mount.result_id:
                failed = self._failed.get(mount.result_id)
                if failed is None:
                    raise NotFoundError(f"no such result: `{mount.result_id}`")
                trees.append(failed)
                continue
            assert mount.reference is None or isinstance(mount.reference, LazyReference)
            trees.append(None if mount.reference is None else await mount.reference.tree())
        container = await InProcessContainer.open(
            spec,
            trees,
            self._services(),
            allows_insecure="security.insecure" in self._entitlements,
            on_release=lambda: self._containers.discard(container),
        )
        self._containers.add(container)
        return container

    async def close(self) -> None:
        """Release what the frontend left: to be called when it has ended.

        The outermost client releases all results, its own and those of other frontends.
        """
        for container in list(self._containers):
            await container.release()
        if self._parent is None:
            while self._results:
                await self._results.pop().release()

    async def resolve_image(
        self,
        ref: str,
        *,
        platform: Platform | None = None,
        resolve_mode: str = "default",
        log_name: str = "",
    ) -> c.ResolvedImage:
        """Ask the source of images, or what policies name instead.

        Raises:
            NotFoundError: there is no such image, or none for the platform.
            ToranaError: there is no way to find out.
        """
        found = await self.resolve_source(
            f"{_IMAGE}://{parse_reference(ref).with_default_tag()}",
            {},
            platform=platform,
            resolve_mode=resolve_mode,
            log_name=log_name,
        )
        if found.image is None:
            raise NotFoundError(f"{found.identifier}: is no image")
        return found.image

    async def resolve_source(
        self,
        identifier: str,
        attrs: Mapping[str, str],
        *,
        platform: Platform | None = None,
        log_name: str = "",
        resolve_mode: str = "default",
    ) -> c.ResolvedSource:
        asked = SourceOp(identifier=identifier, attrs=attrs)
        try:
            source = await self._policies.check(asked, platform, self.look_up)
        except ToranaError as err:
            err.message = f"could not resolve {identifier} due to policy: {err}"
            err.args = (err.message,)
            raise
        return await self.look_up(source, platform, log_name, resolve_mode)

    async def look_up(
        self, source: SourceOp, platform: Platform | None, log_name: str, resolve_mode: str
    ) -> c.ResolvedSource:
        """Ask the source itself, whatever policies say of it."""
        scheme, _, rest = source.identifier.partition("://")
        attrs = dict(source.attrs)
        image: c.ResolvedImage | None = None
        if scheme == _IMAGE:
            rest = str(parse_reference(rest).with_default_tag())
            image = await self._image(
                scheme, rest, {"image.resolvemode": resolve_mode, **attrs}, platform, log_name
            )
        elif scheme == _LAYOUT:
            image = await self._image(scheme, rest, attrs, platform, log_name)
        return c.ResolvedSource(identifier=source.identifier, attrs=attrs, image=image)

    async def _image(
        self,
        scheme: str,
        rest: str,
        attrs: Mapping[str, str],
        platform: Platform | None,
        log_name: str,
    ) -> c.ResolvedImage:
        """Ask a source for the config of an image."""
        request = SourceRequest(
            scheme=scheme, rest=rest, attrs=attrs, platform=platform or self._worker.platform
        )
        # Clients tell vertices apart as BuildKit does: by what was looked up for which platform.
        id = request.identifier + ("" if platform is None else platform.format_all())
        with self.vertex(log_name or f"[internal] load metadata for {rest}", id) as log:
            if self._open_source is None:
                raise UnsupportedError(f"images are not supported here: `{request.identifier}`")
            instance = cast("ImageSourceInstance", self._open_source(request, _LookUp(log)))
            found = await instance.metadata()
        return c.ResolvedImage(ref=found.ref, digest=found.digest, config=found.config)

    async def warn(self, warning: c.Warning) -> None:
        ranges: tuple[SourceRange, ...] = tuple(warning.ranges)
        self._job.emit(
            WarningEvent(
                vertex=warning.vertex,
                short=warning.short,
                level=warning.level,
                detail=tuple(warning.detail),
                url=warning.url,
                ranges=ranges,
                data=warning.data,
            )
        )

    @contextmanager
    def vertex(self, name: str, id: str = "") -> Iterator[Callable[[int, bytes], None]]:
        """Show something that is no op as a vertex while entered; gives its log.

        Twice the same `id`, else name, in one build is the same thing: something done before.
        """
        with VertexProgress(self._job, name, id or f"{self._job.id} {name}") as progress:
            yield progress.log
