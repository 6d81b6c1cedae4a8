"""`RemoteEngine`: builds on a daemon, with our frontends running here.

The build is announced by `Control.Solve`, which returns when it is over. Meanwhile the client
serves its session, runs the frontend through the bridge, and watches the progress.

Spec: wire reference, sequences, section 3.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from torana.core.errors import ToranaError, UnsupportedError, UserError
from torana.core.llb.definition import Definition
from torana.core.llb.policy import SourcePolicy
from torana.core.pool import run_blocking
from torana.core.solver.progress import ProgressSink, WarningEvent
from torana.gateway.client.client import CacheImport, Result, SolveRequest
from torana.gateway.client.policy_messages import policy_message
from torana.gateway.engines.clientcaches import NO_CACHES, ClientCaches
from torana.gateway.engines.engine import BuildRequest, BuildResult, NoProgress
from torana.gateway.engines.picking import pick
from torana.gateway.engines.remote.address import TLS, parse_address
from torana.gateway.engines.remote.clients import DrivingClient
from torana.gateway.engines.remote.connection import Connection, connect
from torana.gateway.engines.remote.exports import Exports
from torana.gateway.engines.remote.places import Places
from torana.gateway.engines.remote.services import services_of
from torana.gateway.engines.remote.statusevents import events
from torana.gateway.protocol import control_pb2 as pb
from torana.gateway.protocol.calls import remote_errors
from torana.gateway.protocol.control_pb2_grpc import ControlStub
from torana.gateway.runners.finder import GATEWAY, FrontendFinder
from torana.gateway.runners.workers import FrontendWorkers
from torana.gateway.session.client import attach_control, new_id
from torana.plugins.manager import PluginManager

_STATUS_END_S: Final = 5.0
_CAPS: Final = "frontend.caps"
_SUBREQUESTS: Final = "moby.buildkit.frontend.subrequests"
_BUILD_ID: Final = "buildkit-controlapi-buildid"


class _NotBegunError(ToranaError):
    """The daemon does not answer for a build; its answer to the build itself says why, if any."""


class RemoteEngine:
    """One daemon. Use it as `async with RemoteEngine.open(address) as engine`."""

    def __init__(self, connection: Connection, plugins: PluginManager) -> None:
        self._connection = connection
        self._plugins = plugins
        self._frontends = FrontendWorkers()
        self._control: Any = ControlStub(connection.channel)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        address: str,
        *,
        tls: TLS | None = None,
        docker_host: str = "",
        plugins: PluginManager | None = None,
    ) -> AsyncIterator[RemoteEngine]:
        """Connect to the daemon at `address`.

        Raises:
            UsageError: the address is malformed.
            ConnectionFailedError: nobody answers there.
        """
        parsed = parse_address(address, tls=tls, docker_host=docker_host)
        async with connect(parsed, address) as connection:
            engine = cls(connection, plugins or PluginManager())
            try:
                yield engine
            finally:
                await engine._frontends.close()

    async def close(self) -> None:
        """Do nothing: the connection belongs to `open`."""

    async def build(self, request: BuildRequest, progress: ProgressSink) -> BuildResult:
        """Run a build; see `Engine.build`. Cancelling it cancels the build on the daemon."""
        exports = Exports(request.exports, is_docker=self._connection.is_docker)
        ref, session_id = new_id(), new_id()

        def warn(text: str) -> None:
            progress.emit(WarningEvent(vertex=None, short=text))

        caches = ClientCaches.read(request.cache_imports, request.cache_exports, warn)
        request = replace(
            request,
            cache_imports=caches.imports,
            options={**request.options, **caches.options()},
        )
        async with self._session(request, exports, session_id, caches):
            message = self._message(request, exports, ref, session_id)
            places = Places(progress)
            try:
                response = await self._run(request, message, places)
            except ToranaError as err:
                places.explain(err)
                raise
        answers = dict(response.ExporterResponse)
        await run_blocking(exports.finish, answers)
        await run_blocking(caches.finish, answers)
        return BuildResult(response=answers)

    def _message(
        self, request: BuildRequest, exports: Exports, ref: str, session_id: str
    ) -> pb.SolveRequest:
        message = pb.SolveRequest(
            Ref=ref,
            Session=session_id,
            FrontendAttrs=dict(request.options),
            Entitlements=sorted(request.allow),
            Cache=pb.CacheOptions(
                Exports=_cache_entries(request.cache_exports),
                Imports=_cache_entries(request.cache_imports),
            ),
        )
        if (policy := _policy(request)) is not None:
            message.SourcePolicy.CopyFrom(policy_message(policy))
        for type_, attrs in exports.wanted():
            message.Exporters.append(pb.Exporter(Type=type_, Attrs=attrs))
        if message.Exporters:
            message.ExporterDeprecated = message.Exporters[0].Type
            message.ExporterAttrsDeprecated.update(message.Exporters[0].Attrs)
        return message

    async def _run(
        self, request: BuildRequest, message: pb.SolveRequest, places: Places
    ) -> pb.SolveResponse:
        """Solve, watch, and run the frontend at the same time; the daemon's answer counts."""
        watching = asyncio.ensure_future(self._watch(message.Ref, places))
        solving = asyncio.ensure_future(self._solve(message))
        driving = asyncio.ensure_future(self._drive(request, message, places))
        try:
            await asyncio.wait([driving, solving], return_when=asyncio.FIRST_COMPLETED)
            if driving.done() and (failure := driving.exception()) is not None:
                # Told in our own words; the daemon's echo of it would say less.
                await asyncio.wait([solving], timeout=_STATUS_END_S)
                is_refused = isinstance(failure, _NotBegunError) and solving.done()
                if not is_refused or solving.exception() is None:
                    raise failure
            return await solving
        finally:
            for task in (solving, driving):
                task.cancel()
            await asyncio.gather(solving, driving, return_exceptions=True)
            await _last_events(watching)

    async def _solve(self, message: pb.SolveRequest) -> pb.SolveResponse:
        with remote_errors():
            response: pb.SolveResponse = await self._control.Solve(message)
            return response

    async def _watch(self, ref: str, progress: ProgressSink) -> None:
        with remote_errors():
            async for response in self._control.Status(pb.StatusRequest(Ref=ref)):
                for event in events(response):
                    progress.emit(event)

    async def _drive(self, request: BuildRequest, message: pb.SolveRequest, places: Places) -> None:
        """Run the frontend here, and return its result to the daemon."""
        try:
            client = await DrivingClient.open(
                self._connection.channel,
                options=request.options,
                session_id=message.Session,
                metadata=((_BUILD_ID, message.Ref),),
            )
        except ToranaError as err:
            raise _NotBegunError(err.message, hint=err.hint) from err
        client.places = places
        client.finder = self._finder(request)
        async with _told(client):
            await client.finish(await self._frontend_result(request, client))

    async def _frontend_result(self, request: BuildRequest, client: DrivingClient) -> Result:
        if request.definition is not None:
            definition = request.definition
            if request.no_cache:
                definition = _without_cache(definition)
            return await client.solve(
                SolveRequest(definition=definition, cache_imports=request.cache_imports)
            )
        name = request.frontend
        if request.is_frontend_remote or name == GATEWAY:
            return await client.solve(SolveRequest(frontend=name, frontend_opt=request.options))
        finder = self._finder(request)
        assert finder is not None
        if request.record is not None:
            from torana.gateway.engines.recorded import recorded_frontend

            frontend = recorded_frontend(request, finder)
        elif (picked := pick(request)) is not None:
            return await picked.build(client)
        else:
            frontend = finder(name)
        result: Result = await frontend.build(client)
        return result

    def _finder(self, request: BuildRequest) -> FrontendFinder | None:
        if request.is_frontend_remote:
            return None
        return FrontendFinder(
            self._plugins,
            rules=request.rules,
            is_isolated=request.is_isolated,
            workers=self._frontends,
        )

    async def translate(self, request: BuildRequest) -> Definition | None:
        """Run the frontend only; see `Engine.translate`."""
        async with self._asking(request, NoProgress()) as result:
            if len(result.refs) > 1:
                raise UserError("the result has several platforms", hint="name one with --platform")
            found = next(iter(result.refs.values()), result.ref)
            return None if found is None else await found.definition()

    async def ask(self, request: BuildRequest, progress: ProgressSink) -> Mapping[str, bytes]:
        """Let the frontend answer a subrequest; see `Engine.ask`."""
        # Frontends that do not know of questions are to say so, not to build.
        options = {_CAPS: _SUBREQUESTS, **request.options}
        asked = replace(request, options=options)
        async with self._asking(asked, progress) as result:
            return dict(result.metadata)

    @contextlib.asynccontextmanager
    async def _session(
        self,
        request: BuildRequest,
        exports: Exports,
        session_id: str,
        caches: ClientCaches = NO_CACHES,
    ) -> AsyncIterator[None]:
        async with (
            services_of(request, exports, self._plugins.secret_reader, caches.stores) as services,
            attach_control(
                self._connection.channel, services, id=session_id, shared_key=_shared_key(request)
            ),
        ):
            yield

    @contextlib.asynccontextmanager
    async def _asking(self, request: BuildRequest, progress: ProgressSink) -> AsyncIterator[Result]:
        """Give what the frontend returns, in a build of its own that leaves no record."""
        ref, session_id = new_id(), new_id()
        async with self._session(request, Exports((), is_docker=False), session_id):
            message = pb.SolveRequest(
                Ref=ref, Session=session_id, Internal=True, Cache=pb.CacheOptions()
            )
            if (policy := _policy(request)) is not None:
                message.SourcePolicy.CopyFrom(policy_message(policy))
            solving = asyncio.ensure_future(self._solve(message))
            watching = asyncio.ensure_future(self._watch(ref, progress))
            try:
                client = await DrivingClient.open(
                    self._connection.channel,
                    options=request.options,
                    session_id=session_id,
                    metadata=((_BUILD_ID, ref),),
                )
                client.finder = self._finder(request)
                async with _told(client):
                    yield await self._frontend_result(request, client)
                    await client.finish(Result())
                await solving
            finally:
                solving.cancel()
                await asyncio.gather(solving, return_exceptions=True)
                await _last_events(watching)


@contextlib.asynccontextmanager
async def _told(client: DrivingClient) -> AsyncIterator[None]:
    """Tell the daemon how the block fails, which ends the build there."""
    try:
        yield
    except BaseException as err:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_STATUS_END_S):
                await asyncio.shield(client.fail(err))
        raise


async def _last_events(watching: asyncio.Future[None]) -> None:
    """Wait for the end of a build's events, which the daemon tells; not for ever."""
    await asyncio.wait([watching], timeout=_STATUS_END_S)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


def _cache_entries(wanted: Sequence[CacheImport]) -> list[pb.CacheOptionsEntry]:
    return [pb.CacheOptionsEntry(Type=each.type, Attrs=dict(each.attrs)) for each in wanted]


def _policy(request: BuildRequest) -> SourcePolicy | None:
    """Give all rules as one policy, which is what daemons take.

    Raises:
        UnsupportedError: a policy is more than rules.
    """
    given = [] if request.source_policy is None else [request.source_policy]
    for policy in request.policies:
        if not isinstance(policy, SourcePolicy):
            raise UnsupportedError(
                f"a daemon cannot ask this policy: `{type(policy).__name__}`",
                hint="build without --addr, or use the policy `sources`",
            )
        given.append(policy)
    if len(given) < 2:
        return given[0] if given else None
    return SourcePolicy(rules=tuple(rule for policy in given for rule in policy.rules))


def _shared_key(request: BuildRequest) -> str:
    """Name the folders, so that a daemon keeps what it has of them from build to build."""
    folders = sorted((name, str(path)) for name, path in request.local_dirs.items())
    if not folders:
        return ""
    context = request.local_dirs.get("context")
    name = "folders" if context is None else context.name
    return f"{name}:{hashlib.sha256(repr(folders).encode()).hexdigest()[:16]}"


def _without_cache(definition: Definition) -> Definition:
    """Say of each op that its cache is to be ignored."""
    from torana.core.llb.ops import OpMetadata

    metadata: Mapping[str, OpMetadata] = {
        digest: replace(definition.metadata.get(digest, OpMetadata()), ignore_cache=True)
        for digest in definition.digests()
    }
    return replace(definition, metadata=metadata)
