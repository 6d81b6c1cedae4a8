"""`RemoteClient`: the gateway at the other end of a connection, ours or stock BuildKit's.

Spec: `moby.buildkit.v1.frontend.LLBBridge`.
"""

from __future__ import annotations

import asyncio
import copy
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self

from torana.core.errors import NotFoundError, ToranaError, UnsupportedError
from torana.core.llb import ops as o
from torana.core.llb.definition import Definition
from torana.core.oci.digest import Digest
from torana.core.oci.platform import Platform
from torana.core.oci.reference import parse_reference
from torana.gateway.client import client as c
from torana.gateway.client import messages as m
from torana.gateway.client.container_messages import container_message
from torana.gateway.client.containers import ContainerSpec
from torana.gateway.protocol import gateway_pb2 as pb
from torana.gateway.protocol import ops_pb2
from torana.gateway.protocol.errors import RemoteError, status_of

if TYPE_CHECKING:
    import grpc.aio

    from torana.gateway.client.remote_containers import RemoteContainer
    from torana.gateway.client.transport import ExecCall, Transport

_PIECE_BYTES: Final = 8 << 20  # of a file, below the limit of messages
_MISSING: Final = ("no such file or directory", "file does not exist")


class RemoteClient:
    """A client that asks in messages; made by `open` or `over`.

    `workers` of the environment count before what the daemon tells.
    """

    def __init__(
        self,
        transport: Transport,
        pong: pb.PongResponse,
        *,
        options: Mapping[str, str],
        session_id: str,
        workers: Sequence[c.Worker] = (),
    ) -> None:
        self._transport = transport
        self._options = dict(options)
        self._session_id = session_id
        self._given_inputs: Mapping[str, Definition] | None = None
        self._workers = list(workers) or [m.worker_of(each) for each in pong.Workers]
        self._llb_caps = m.caps_of(pong.LLBCaps)
        self._gateway_caps = m.caps_of(pong.FrontendAPICaps)

    @classmethod
    async def open(
        cls,
        channel: grpc.aio.Channel,
        *,
        options: Mapping[str, str],
        session_id: str,
        workers: Sequence[c.Worker] = (),
        metadata: Sequence[tuple[str, str]] = (),
    ) -> Self:
        """Ask the other end of a channel what it can, and give a client.

        `metadata` goes with each call: on a control socket it names the build.

        Raises:
            ToranaError: it does not answer.
        """
        from torana.gateway.client.channel import ChannelTransport

        transport = ChannelTransport(channel, metadata)
        return await cls.over(transport, options=options, session_id=session_id, workers=workers)

    @classmethod
    async def over(
        cls,
        transport: Transport,
        *,
        options: Mapping[str, str],
        session_id: str,
        workers: Sequence[c.Worker] = (),
    ) -> Self:
        """Ask the other end of a transport what it can, and give a client.

        Raises:
            ToranaError: it does not answer.
        """
        pong = await transport.call("Ping", pb.PingRequest())
        return cls(transport, pong, options=options, session_id=session_id, workers=workers)

    def nested(self, options: Mapping[str, str], inputs: Mapping[str, Definition]) -> Self:
        """Give a client of the same build for another frontend, which is run on this side."""
        other = copy.copy(self)
        other._options = dict(options)
        other._given_inputs = dict(inputs)
        return other

    @property
    def options(self) -> Mapping[str, str]:
        return self._options

    @property
    def session_id(self) -> str:
        return self._session_id

    @property
    def workers(self) -> Sequence[c.Worker]:
        return self._workers

    @property
    def llb_caps(self) -> frozenset[str]:
        return self._llb_caps

    @property
    def gateway_caps(self) -> frozenset[str]:
        return self._gateway_caps

    async def call(self, method: str, request: Any) -> Any:
        """Call a method of the bridge.

        Raises:
            ToranaError: what the other end reports.
        """
        return await self._transport.call(method, request)

    async def inputs(self) -> Mapping[str, Definition]:
        if self._given_inputs is not None:
            return self._given_inputs
        if "frontend.inputs" not in self._gateway_caps:
            return {}
        response = await self.call("Inputs", pb.InputsRequest())
        return m.definitions_of(response.Definitions)

    async def solve(self, request: c.SolveRequest) -> c.Result:
        response = await self.call("Solve", m.solve_message(request))
        result = m.result_of(response.result, self._reference)
        if request.evaluate and "gateway.solve.evaluate" not in self._gateway_caps:
            for reference in (result.ref, *result.refs.values()):
                if reference is not None:
                    await reference.evaluate()
        return result

    def _reference(self, ref: pb.Ref) -> RemoteReference | None:
        return RemoteReference(self, ref) if ref.id else None

    async def resolve_image(
        self,
        ref: str,
        *,
        platform: Platform | None = None,
        resolve_mode: str = "default",
        log_name: str = "",
    ) -> c.ResolvedImage:
        name = str(parse_reference(ref).with_default_tag())
        if "source.metaresolver" in self._gateway_caps:
            attrs = {} if resolve_mode == "default" else {"image.resolvemode": resolve_mode}
            found = await self.resolve_source(
                f"docker-image://{name}",
                attrs,
                platform=platform,
                log_name=log_name,
                resolve_mode=resolve_mode,
            )
            if found.image is None:
                raise NotFoundError(f"{name}: not found")
            return replace(found.image, ref=found.identifier.partition("://")[2])
        request = pb.ResolveImageConfigRequest(Ref=name, ResolveMode=resolve_mode, LogName=log_name)
        if platform is not None:
            request.Platform.CopyFrom(m.to_message(platform, ops_pb2.Platform))
        response = await self.call("ResolveImageConfig", request)
        return c.ResolvedImage(
            ref=response.Ref or name, digest=Digest(response.Digest), config=response.Config
        )

    async def resolve_source(
        self,
        identifier: str,
        attrs: Mapping[str, str],
        *,
        platform: Platform | None = None,
        log_name: str = "",
        resolve_mode: str = "default",
    ) -> c.ResolvedSource:
        if "source.metaresolver" not in self._gateway_caps:
            raise UnsupportedError(f"the engine looks up no sources: `{identifier}`")
        source = o.SourceOp(identifier=identifier, attrs=attrs)
        request = pb.ResolveSourceMetaRequest(
            Source=m.to_message(source, ops_pb2.SourceOp),
            LogName=log_name,
            ResolveMode=resolve_mode,
        )
        if platform is not None:
            request.Platform.CopyFrom(m.to_message(platform, ops_pb2.Platform))
        response = await self.call("ResolveSourceMeta", request)
        return m.source_of(response, identifier.partition("://")[2])

    async def warn(self, warning: c.Warning) -> None:
        if "gateway.warnings" in self._gateway_caps:
            await self.call("Warn", m.warning_message(warning))

    async def new_container(self, spec: ContainerSpec) -> RemoteContainer:
        from torana.gateway.client.remote_containers import RemoteContainer

        if "gateway.exec" not in self._gateway_caps:
            raise UnsupportedError("the engine has no containers for frontends")
        id = secrets.token_hex(13)[:25]
        await self.call("NewContainer", await container_message(id, spec, _ref_of))
        return RemoteContainer(self, id)

    def exec_process(self) -> ExecCall:
        """Open a stream for processes."""
        return self._transport.exec_process()

    async def finish(self, result: c.Result) -> None:
        """Return the result of the build; once, and instead of `fail`."""
        message = await m.result_message(result, _whole_ref_of)
        await self.call("Return", pb.ReturnRequest(result=message))

    async def fail(self, error: BaseException) -> None:
        """Return an error as the end of the build."""
        if isinstance(error, asyncio.CancelledError):
            error = ToranaError("context canceled")
        await self.call("Return", pb.ReturnRequest(error=status_of(error)))


class RemoteReference:
    """A reference that lives at the other end."""

    def __init__(self, client: RemoteClient, ref: pb.Ref) -> None:
        self._client = client
        self._ref = ref

    @property
    def id(self) -> str:
        return self._ref.id

    @property
    def message(self) -> pb.Ref:
        """The reference as the engine gave it."""
        return self._ref

    async def read_file(self, path: str, *, offset: int = 0, length: int | None = None) -> bytes:
        return await read_file(self._client, "ReadFile", self._ref.id, path, offset, length)

    async def read_dir(self, path: str, *, include: str | None = None) -> Sequence[c.Stat]:
        return await read_dir(self._client, "ReadDir", self._ref.id, path, include)

    async def stat(self, path: str) -> c.Stat:
        return await stat_file(self._client, "StatFile", self._ref.id, path)

    async def evaluate(self) -> None:
        if "gateway.evaluate" in self._client.gateway_caps:
            await self._client.call("Evaluate", pb.EvaluateRequest(Ref=self._ref.id))
        else:  # listing it needs everything, too
            await self._client.call("ReadDir", pb.ReadDirRequest(Ref=self._ref.id, DirPath="/"))

    async def definition(self) -> Definition | None:
        if not self._ref.HasField("def"):
            return None
        return m.definition_of(getattr(self._ref, "def"))


async def read_file(
    client: RemoteClient, method: str, id: str, path: str, offset: int, length: int | None
) -> bytes:
    """Read a file of a reference, piece by piece."""
    pieces: list[bytes] = []
    while length is None or length > 0:
        wanted = _PIECE_BYTES if length is None else min(length, _PIECE_BYTES)
        span = pb.FileRange(Offset=offset, Length=wanted)
        request = pb.ReadFileRequest(Ref=id, FilePath=path, Range=span)
        piece = (await file_call(client, method, request)).Data
        pieces.append(piece)
        offset += len(piece)
        if length is not None:
            length -= len(piece)
        if len(piece) < wanted:
            break
    return b"".join(pieces)


async def read_dir(
    client: RemoteClient, method: str, id: str, path: str, include: str | None, mount: int = 0
) -> Sequence[c.Stat]:
    """List a directory of a reference or container."""
    request = pb.ReadDirRequest(
        Ref=id, DirPath=path, IncludePattern=include or "", MountIndex=mount
    )
    return [m.stat_of(entry) for entry in (await file_call(client, method, request)).entries]


async def stat_file(
    client: RemoteClient, method: str, id: str, path: str, mount: int = 0
) -> c.Stat:
    """Give metadata of one path of a reference or container."""
    request = pb.StatFileRequest(Ref=id, Path=path, MountIndex=mount)
    return m.stat_of((await file_call(client, method, request)).stat)


async def file_call(client: RemoteClient, method: str, request: Any) -> Any:
    """Make a call about a file; one that is missing is a `NotFoundError`."""
    try:
        return await client.call(method, request)
    except RemoteError as err:
        # Stock BuildKit has no code for it; its clients look at the text, too.
        if err.vertex is None and err.message.endswith(_MISSING):
            raise NotFoundError(err.message) from err
        raise


async def _ref_of(reference: c.Reference | None) -> pb.Ref:
    if reference is None:
        return pb.Ref()
    assert isinstance(reference, RemoteReference), "references belong to the client they are from"
    return pb.Ref(id=reference.id)


async def _whole_ref_of(reference: c.Reference | None) -> pb.Ref:
    """Give a reference as it came, with its definition: results are returned like that."""
    ref = await _ref_of(reference)
    if isinstance(reference, RemoteReference):
        ref.CopyFrom(reference.message)
    return ref
