"""`Bridge`: one frontend's conversation, in messages of LLBBridge.

Names references and containers by ids, asks a `Client` for everything, and keeps what the frontend
returns. Knows no gRPC; failures are raised.

Spec: `moby.buildkit.v1.frontend.LLBBridge`.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from torana.core.errors import ToranaError, UserError
from torana.core.llb.ops import SourceOp
from torana.core.llb.policy import apply_policies
from torana.core.oci.reference import parse_reference
from torana.gateway.client import client as c
from torana.gateway.client import messages as m
from torana.gateway.client.container_messages import container_spec_of
from torana.gateway.client.containers import Container
from torana.gateway.client.policy_messages import policies_of
from torana.gateway.protocol import gateway_pb2 as pb
from torana.gateway.protocol import sourcepolicy_pb2
from torana.gateway.protocol.errors import ALREADY_EXISTS, NOT_FOUND, RemoteError, error_of
from torana.gateway.protocol.status_pb2 import Status

_KEPT_CALLS: Final = 8
_OCI_LAYOUT: Final = 1  # a `ResolverType`


class Bridge:
    """Answers one frontend. Lives on one event loop."""

    def __init__(self, client: c.Client) -> None:
        self.client = client
        self._references: dict[str, c.Reference] = {}
        self._names: dict[int, str] = {}  # of references, by identity; they are kept alive
        self._containers: dict[str, Container] = {}
        self._returned: asyncio.Future[c.Result] = asyncio.get_running_loop().create_future()
        self._closed: ToranaError | None = None
        self.calls: list[str] = []  # the last few, newest last
        self._answering = 0
        self._active_at = time.monotonic()

    # What came of it

    @property
    def has_returned(self) -> bool:
        return self._returned.done()

    @property
    def result(self) -> c.Result | None:
        """What the frontend has returned; None if that is nothing yet, or an error."""
        is_given = self._returned.done() and self._returned.exception() is None
        return self._returned.result() if is_given else None

    async def returned(self) -> c.Result:
        """Wait for what the frontend returns.

        Raises:
            ToranaError: it returned an error, or the bridge was closed before it returned.
        """
        return await asyncio.shield(self._returned)

    async def close(self, reason: ToranaError | None = None) -> None:
        """End the conversation: later calls fail, containers are released."""
        if self._closed is None:
            self._closed = reason or ToranaError("build has ended")
        if not self._returned.done():
            self._returned.set_exception(self._closed)
        self._returned.exception()  # seen, whether somebody waits or not
        containers, self._containers = self._containers, {}
        for container in containers.values():
            await container.release()

    def note(self, call: str) -> None:
        """Remember a call, for the report of a frontend that fails.

        Raises:
            ToranaError: the build has ended.
        """
        self.calls = [*self.calls[-_KEPT_CALLS + 1 :], call]
        if self._closed is not None:
            raise self._closed

    # Calls

    async def answer(self, method: str, request: Any) -> Any:
        """Answer a call of the service's method with that name; `ExecProcess` is not one of them.

        Raises:
            ToranaError: the answer is a failure.
        """
        self._answering += 1
        try:
            return await _ANSWERS[method](self, request)
        finally:
            self._answering -= 1
            self._active_at = time.monotonic()

    def idle_s(self) -> float:
        """Say for how long nothing has been asked or answered, and no container was open."""
        if self._answering or self._containers:
            self._active_at = time.monotonic()
        return time.monotonic() - self._active_at

    async def ping(self, request: pb.PingRequest) -> pb.PongResponse:
        self.note("Ping")
        return pb.PongResponse(
            FrontendAPICaps=m.caps_messages(self.client.gateway_caps),
            LLBCaps=m.caps_messages(self.client.llb_caps),
            Workers=[m.worker_message(worker) for worker in self.client.workers],
        )

    async def inputs(self, request: pb.InputsRequest) -> pb.InputsResponse:
        self.note("Inputs")
        response = pb.InputsResponse()
        for name, definition in (await self.client.inputs()).items():
            response.Definitions[name].CopyFrom(m.definition_message(definition))
        return response

    async def solve(self, request: pb.SolveRequest) -> pb.SolveResponse:
        ops = len(getattr(request.Definition, "def"))
        self.note(f"Solve({request.Frontend or f'{ops} ops'})")
        result = await self.client.solve(m.solve_request_of(request))
        if request.Final:
            self._set(replace(result, metadata=_exporter_attr(request.ExporterAttr)))
        if not request.allowResultReturn:
            if result.refs:
                raise UserError("several references need a newer client")
            return pb.SolveResponse(ref=await self._id(result.ref))
        message = await m.result_message(result, self._ref)
        if not request.allowResultArrayRef:
            _make_old(message)
        return pb.SolveResponse(result=message)

    async def read_file(self, request: pb.ReadFileRequest) -> pb.ReadFileResponse:
        self.note(f"ReadFile({request.FilePath})")
        reference = self._reference(request.Ref)
        offset, length = _range(request)
        data = await reference.read_file(request.FilePath, offset=offset, length=length)
        return pb.ReadFileResponse(Data=data)

    async def read_dir(self, request: pb.ReadDirRequest) -> pb.ReadDirResponse:
        self.note(f"ReadDir({request.DirPath})")
        reference = self._reference(request.Ref)
        found = await reference.read_dir(request.DirPath, include=request.IncludePattern or None)
        return pb.ReadDirResponse(entries=map(m.stat_message, found))

    async def stat_file(self, request: pb.StatFileRequest) -> pb.StatFileResponse:
        self.note(f"StatFile({request.Path})")
        found = await self._reference(request.Ref).stat(request.Path)
        return pb.StatFileResponse(stat=m.stat_message(found))

    async def evaluate(self, request: pb.EvaluateRequest) -> pb.EvaluateResponse:
        self.note("Evaluate")
        if request.Ref:
            await self._reference(request.Ref).evaluate()
        return pb.EvaluateResponse()

    async def resolve_image_config(
        self, request: pb.ResolveImageConfigRequest
    ) -> pb.ResolveImageConfigResponse:
        self.note(f"ResolveImageConfig({request.Ref})")
        attrs: dict[str, str] = {}
        identifier = f"docker-image://{parse_reference(request.Ref).with_default_tag()}"
        if request.ResolverType == _OCI_LAYOUT:
            attrs = {"oci.session": request.SessionID, "oci.store": request.StoreID}
            identifier = f"oci-layout://{request.Ref}"
        source = _applied(request.SourcePolicies, SourceOp(identifier=identifier, attrs=attrs))
        found = await self.client.resolve_source(
            source.identifier,
            source.attrs,
            platform=m.platform_of(request, "Platform"),
            resolve_mode=request.ResolveMode or "default",
            log_name=request.LogName,
        )
        image = found.image
        if image is None:
            raise UserError(f"no image: `{request.Ref}`")
        return pb.ResolveImageConfigResponse(
            Digest=image.digest, Config=image.config, Ref=image.ref
        )

    async def resolve_source_meta(
        self, request: pb.ResolveSourceMetaRequest
    ) -> pb.ResolveSourceMetaResponse:
        self.note(f"ResolveSourceMeta({request.Source.identifier})")
        if not request.HasField("Source"):
            raise UserError("no source")
        attrs = dict(request.Source.attrs)
        source = _applied(
            request.SourcePolicies, SourceOp(identifier=request.Source.identifier, attrs=attrs)
        )
        found = await self.client.resolve_source(
            source.identifier,
            source.attrs,
            platform=m.platform_of(request, "Platform"),
            log_name=request.LogName,
            resolve_mode=request.ResolveMode or attrs.get("image.resolvemode", "default"),
        )
        return m.source_message(found, no_config=request.Image.NoConfig)

    async def warn(self, request: pb.WarnRequest) -> pb.WarnResponse:
        self.note("Warn")
        await self.client.warn(m.warning_of(request))
        return pb.WarnResponse()

    async def return_(self, request: pb.ReturnRequest) -> pb.ReturnResponse:
        """Take the final result or error; only once."""
        self.note("Return")
        if request.HasField("error"):
            self._fail(error_of(request.error))
        else:
            self._set(m.result_of(request.result, self._returned_reference))
        return pb.ReturnResponse()

    # Containers

    async def new_container(self, request: pb.NewContainerRequest) -> pb.NewContainerResponse:
        self.note("NewContainer")
        id = request.ContainerID
        if id in self._containers:
            raise status_error(ALREADY_EXISTS, f"container {id} already exists")
        spec = container_spec_of(request, self._references)
        container = await self.client.new_container(spec)
        if id in self._containers or self._closed is not None:
            await container.release()
            raise status_error(ALREADY_EXISTS, f"container {id} already exists")
        self._containers[id] = container
        return pb.NewContainerResponse()

    async def release_container(
        self, request: pb.ReleaseContainerRequest
    ) -> pb.ReleaseContainerResponse:
        self.note("ReleaseContainer")
        container = self.container(request.ContainerID)
        del self._containers[request.ContainerID]
        await container.release()
        return pb.ReleaseContainerResponse()

    async def read_file_container(self, request: pb.ReadFileRequest) -> pb.ReadFileResponse:
        self.note(f"ReadFileContainer({request.FilePath})")
        offset, length = _range(request)
        data = await self.container(request.Ref).read_file(
            request.FilePath, mount=request.MountIndex, offset=offset, length=length
        )
        return pb.ReadFileResponse(Data=data)

    async def read_dir_container(self, request: pb.ReadDirRequest) -> pb.ReadDirResponse:
        self.note(f"ReadDirContainer({request.DirPath})")
        found: Sequence[c.Stat] = await self.container(request.Ref).read_dir(
            request.DirPath, mount=request.MountIndex, include=request.IncludePattern or None
        )
        return pb.ReadDirResponse(entries=map(m.stat_message, found))

    async def stat_file_container(self, request: pb.StatFileRequest) -> pb.StatFileResponse:
        self.note(f"StatFileContainer({request.Path})")
        container = self.container(request.Ref)
        found = await container.stat(request.Path, mount=request.MountIndex)
        return pb.StatFileResponse(stat=m.stat_message(found))

    def container(self, id: str) -> Container:
        """Find a container.

        Raises:
            RemoteError: there is none (`NOT_FOUND`).
        """
        container = self._containers.get(id)
        if container is None:
            raise status_error(NOT_FOUND, f"container {id} not found")
        return container

    # References

    async def _ref(self, reference: c.Reference | None) -> pb.Ref:
        ref = pb.Ref(id=await self._id(reference))
        if reference is not None:
            definition = await reference.definition()
            if definition is not None:
                getattr(ref, "def").CopyFrom(m.definition_message(definition))
        return ref

    async def _id(self, reference: c.Reference | None) -> str:
        if reference is None:
            return ""
        name = self._names.get(id(reference))
        if name is None:
            name = self._names[id(reference)] = secrets.token_hex(13)[:25]
            self._references[name] = reference
        return name

    def _reference(self, id: str) -> c.Reference:
        reference = self._references.get(id)
        if reference is None:
            raise ToranaError(f"no such ref: {id}")
        return reference

    def _returned_reference(self, ref: pb.Ref) -> c.Reference | None:
        if not ref.id:
            return None
        reference = self._references.get(ref.id)
        if reference is None:
            raise ToranaError(f"return reference {ref.id} not found")
        return reference

    def _set(self, result: c.Result) -> None:
        if self._returned.done():
            raise ToranaError("gateway result is already set")
        self._returned.set_result(result)

    def _fail(self, error: ToranaError) -> None:
        if self._returned.done():
            raise ToranaError("gateway result is already set")
        self._returned.set_exception(error)
        self._returned.exception()


_ANSWERS: Final[Mapping[str, Callable[[Bridge, Any], Awaitable[Any]]]] = {
    "Ping": Bridge.ping,
    "Inputs": Bridge.inputs,
    "Solve": Bridge.solve,
    "ReadFile": Bridge.read_file,
    "ReadDir": Bridge.read_dir,
    "StatFile": Bridge.stat_file,
    "Evaluate": Bridge.evaluate,
    "ResolveImageConfig": Bridge.resolve_image_config,
    "ResolveSourceMeta": Bridge.resolve_source_meta,
    "Warn": Bridge.warn,
    "Return": Bridge.return_,
    "NewContainer": Bridge.new_container,
    "ReleaseContainer": Bridge.release_container,
    "ReadFileContainer": Bridge.read_file_container,
    "ReadDirContainer": Bridge.read_dir_container,
    "StatFileContainer": Bridge.stat_file_container,
}


def status_error(code: int, message: str) -> RemoteError:
    """Give an error that a client gets with just this code."""
    return RemoteError(Status(code=code, message=message))


def _applied(policies: Sequence[sourcepolicy_pb2.Policy], source: SourceOp) -> SourceOp:
    """Give what policies of one lookup make of its source."""
    return apply_policies(policies_of(policies), source)


def _range(request: pb.ReadFileRequest) -> tuple[int, int | None]:
    if not request.HasField("Range"):
        return 0, None
    if request.Range.Offset < 0 or request.Range.Length < 0:
        raise UserError("negative offset or length")
    return request.Range.Offset, request.Range.Length


def _make_old(message: pb.Result) -> None:
    """Turn references into the form that clients without `allowResultArrayRef` read."""
    if message.WhichOneof("result") == "refs":
        refs = {key: ref.id for key, ref in message.refs.refs.items()}
        message.refsDeprecated.refs.update(refs)
    else:
        message.refDeprecated = message.ref.id


def _exporter_attr(data: bytes) -> dict[str, bytes]:
    """Read the metadata of a final solve: a JSON object with values in base64, as Go writes it."""
    import base64
    import binascii

    if not data:
        return {}
    try:
        return {key: base64.b64decode(value) for key, value in json.loads(data).items()}
    except (ValueError, TypeError, AttributeError, binascii.Error) as err:
        raise UserError("invalid exporter attributes") from err
