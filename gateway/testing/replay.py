"""`replay`: plays the client's side of a recording against a daemon.

The calls are the recorded ones, byte for byte, but for ids that the daemon made. What the daemon
asks for inside of sessions is answered from the client's folder as it was, by real file services;
the other services answer as recorded.

Spec: tests/golden/wire/README.md, "Playing the client against a daemon".
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import grpc.aio

from torana.core.errors import NotFoundError
from torana.core.records import dataclass
from torana.gateway.protocol import control_pb2, filesync_pb2, gateway_pb2
from torana.gateway.protocol.errors import RemoteError
from torana.gateway.protocol.status_pb2 import Status
from torana.gateway.session.client import attach_control
from torana.gateway.session.contents import Contents
from torana.gateway.session.files.receiver import ReceiveOptions, receive_tree
from torana.gateway.session.files.writer import WriteOptions
from torana.gateway.session.filesync import FileSync
from torana.gateway.session.layout import LayoutStore
from torana.gateway.session.local import handlers
from torana.gateway.session.transport import Handler, Metadata, Stream, Streaming, Unary, value
from torana.gateway.testing.recordings import Recording, Rpc

_STREAMS: Final = frozenset({"Status", "Prune", "ListenBuildHistory", "Read", "List", "Watch"})
_ID: Final = "x-docker-expose-session-uuid"
_SHARED_KEY: Final = "x-docker-expose-session-sharedkey"
_METHOD: Final = "x-docker-expose-session-grpc-method"
_HEALTH: Final = "/grpc.health.v1.Health/"
_SEND: Final = "/moby.filesync.v1.FileSend/DiffCopy"
_EXPORTER: Final = "buildkit-attachable-exporter-id"
# What tells inner calls of one method apart.
_TELLING: Final = (
    "dir-name",
    "followpaths",
    "include-patterns",
    "exclude-patterns",
    _EXPORTER,
    "buildkit-attachable-store-id",
    "urlpath",
)
_LEFT_OUT: Final = frozenset({"user-agent", "grpc-accept-encoding", "grpc-timeout"})
_TIMEOUT_S: Final = 60.0

InnerCall = tuple[str, tuple[tuple[str, tuple[str, ...]], ...]]
"""A method, and what of its metadata tells it apart."""


@dataclass(slots=True)
class Replayed:
    """What a daemon did."""

    statuses: dict[int, tuple[int, str]] = field(default_factory=dict)  # by number of the call
    details: dict[int, bytes] = field(default_factory=dict)
    answers: dict[int, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    inner_calls: list[InnerCall] = field(default_factory=list)
    files: dict[int, bytes] = field(default_factory=dict)  # exported files, by number of the export


async def replay(
    recording: Recording, channel: grpc.aio.Channel, folder: Path, outputs: Path
) -> Replayed:
    """Play a client whose folder is `folder`; folders that it is sent go below `outputs`.

    Raises:
        TimeoutError: the daemon let the client wait.
    """
    player = _Player(recording, channel, folder, outputs)
    async with asyncio.timeout(_TIMEOUT_S):
        async with asyncio.TaskGroup() as group:
            for rpc in recording.calls:
                group.create_task(player.play(rpc))
    return player.replayed


class _Player:
    def __init__(
        self, recording: Recording, channel: grpc.aio.Channel, folder: Path, outputs: Path
    ) -> None:
        self.recording = recording
        self.replayed = Replayed()
        self._channel = channel
        self._folder = folder
        self._outputs = outputs
        self._ended = {rpc.number: asyncio.Event() for rpc in recording.calls}
        self._is_time = asyncio.Event()  # for what the user did: Ctrl-C
        self._ids: dict[bytes, bytes] = {}

    async def play(self, rpc: Rpc) -> None:
        for other in self.recording.calls:
            if other.name != "Session" and other.ended_before(rpc.start):
                await self._ended[other.number].wait()
        try:
            if rpc.name == "Session":
                await self._play_session(rpc)
            else:
                await self._play_call(rpc)
        finally:
            self._ended[rpc.number].set()

    async def _play_call(self, rpc: Rpc) -> None:
        request = b"".join(rpc.messages(of_caller=True))
        for recorded, made in self._ids.items():
            request = request.replace(recorded, made)
        metadata = [(k, v) for k, v in rpc.metadata if k not in _LEFT_OUT]
        is_stream = rpc.name in _STREAMS
        make: Any = self._channel.unary_stream if is_stream else self._channel.unary_unary
        call = make(rpc.method)(request, metadata=tuple(metadata))
        is_reset = any(e.kind == "reset" and e.is_client for e in rpc.events)
        reset = asyncio.ensure_future(self._cancel_in_time(call)) if is_reset else None
        try:
            if is_stream:
                async for message in call:
                    self._take(rpc, message)
            else:
                self._take(rpc, await call)
        except grpc.aio.AioRpcError as err:
            trailers = dict(err.trailing_metadata() or ())
            detail = trailers.get("grpc-status-details-bin", b"")
            self.replayed.details[rpc.number] = detail if isinstance(detail, bytes) else b""
            self.replayed.statuses[rpc.number] = (err.code().value[0], err.details() or "")
        except asyncio.CancelledError:
            if reset is None or not self._is_time.is_set():
                raise
        else:
            self.replayed.statuses[rpc.number] = (0, "")
        finally:
            if reset is not None:
                reset.cancel()

    def _take(self, rpc: Rpc, message: bytes) -> None:
        self.replayed.answers[rpc.number].append(message)
        if rpc.method.endswith("LLBBridge/Solve"):
            self._learn_ids(rpc.messages(of_caller=False)[0], message)
        elif rpc.name == "Status":
            logs = control_pb2.StatusResponse.FromString(message).logs
            if any(b"sleeping now" in each.msg for each in logs):
                self._is_time.set()
        elif rpc.name == "ListenBuildHistory":
            event = control_pb2.BuildHistoryEvent.FromString(message)
            if event.type == control_pb2.COMPLETE:
                self._is_time.set()

    def _learn_ids(self, recorded: bytes, made: bytes) -> None:
        pairs = zip(_reference_ids(recorded), _reference_ids(made), strict=False)
        self._ids |= {old.encode(): new.encode() for old, new in pairs if old}

    async def _cancel_in_time(self, call: Any) -> None:
        await self._is_time.wait()
        call.cancel()

    async def _play_session(self, rpc: Rpc) -> None:
        metadata = dict(rpc.texts)
        methods = rpc.values(_METHOD)
        half_close = next(
            (e.index for e in rpc.events if e.kind == "half-close" and e.is_client), None
        )
        ending = [
            other
            for other in self.recording.calls
            if other.name != "Session" and other.ended_before(half_close)
        ]
        service = _RecordedServices(self, rpc, methods)
        async with attach_control(
            self._channel,
            [service],
            id=metadata[_ID],
            shared_key=metadata.get(_SHARED_KEY, ""),
        ):
            for other in ending:
                await self._ended[other.number].wait()
            if any(e.kind == "reset" for o in self.recording.calls for e in o.events):
                solves = [o for o in self.recording.calls if o.method.endswith("Control/Solve")]
                for solve in solves:
                    await self._ended[solve.number].wait()
        self.replayed.statuses[rpc.number] = (0, "")


class _RecordedServices:
    """What the client of one session served."""

    def __init__(self, player: _Player, session: Rpc, methods: Sequence[str]) -> None:
        self._player = player
        self._methods = [each for each in methods if not each.startswith(_HEALTH)]
        recording = player.recording
        tunnel = next(
            each["tunnel"] for each in recording.scenario["rpcs"] if each["rpc"] == session.number
        )
        self._recorded = [rpc for rpc in recording.inner_calls if rpc.connection == tunnel]
        self._exports = _export_types(recording, dict(session.texts)[_ID])
        stores = {"export": LayoutStore(player._outputs / "out", is_writable=True)}
        for name, layout in _named_folders(recording, "--oci-layout", player._folder).items():
            stores[f"oci:{name}"] = LayoutStore(layout)
        folders = FileSync(_folders(recording, player._folder))
        self._stores = frozenset(stores)
        self._files = handlers([folders, Contents(stores)])

    def methods(self) -> Mapping[str, Handler]:
        return {method: self._handler(method) for method in self._methods}

    def _handler(self, method: str) -> Handler:
        if method == _SEND:
            return Streaming(self._take_export)
        known = self._files.get(method)
        if known is not None and not self._is_recorded_store(method):
            if isinstance(known, Streaming):
                return Streaming(self._noted(method, known))
            return Unary(self._noted_unary(method, known))
        is_stream = method.rpartition("/")[2] in ("Pull", "ForwardAgent", "Write", "Read", "List")
        if is_stream:
            return Streaming(self._recorded_stream(method))
        return Unary(self._recorded_unary(method))

    def _is_recorded_store(self, method: str) -> bool:
        """Say whether a content store was asked that is not here."""
        calls = [rpc for rpc in self._recorded if rpc.method == method]
        stores = {dict(rpc.texts).get("buildkit-attachable-store-id", "") for rpc in calls}
        return bool(stores - {""} - self._stores)

    def _note(self, method: str, metadata: Metadata) -> None:
        self._player.replayed.inner_calls.append(inner_call(method, metadata))

    def _noted(self, method: str, handler: Streaming) -> Any:
        async def call(stream: Stream, metadata: Metadata) -> None:
            self._note(method, metadata)
            await handler.call(stream, metadata)

        return call

    def _noted_unary(self, method: str, handler: Unary) -> Any:
        async def call(request: bytes, metadata: Metadata) -> bytes:
            self._note(method, metadata)
            return await handler.call(request, metadata)

        return call

    async def _take_export(self, stream: Stream, metadata: Metadata) -> None:
        self._note(_SEND, metadata)
        number = int(value(metadata, _EXPORTER, "0"))
        if self._exports.get(number) == "local":
            folder = self._player._outputs / "out"
            folder.mkdir(exist_ok=True, parents=True)
            options = ReceiveOptions(write=WriteOptions(keeps_others=True, compares=False))
            await receive_tree(stream, folder, options, is_caller=False)
            return
        data = bytearray()
        while (message := await stream.receive()) is not None:
            data += filesync_pb2.BytesMessage.FromString(message).data
        self._player.replayed.files[number] = bytes(data)

    def _recorded_unary(self, method: str) -> Any:
        async def call(request: bytes, metadata: Metadata) -> bytes:
            self._note(method, metadata)
            same = [rpc for rpc in self._recorded if rpc.method == method]
            for rpc in same:
                if len(same) == 1 or rpc.messages(of_caller=True) == [request]:
                    if rpc.status is not None and rpc.status[0]:
                        raise RemoteError(Status(code=rpc.status[0], message=rpc.status[1]))
                    return rpc.messages(of_caller=False)[0]
            raise NotFoundError(f"not recorded: {method}")

        return call

    def _recorded_stream(self, method: str) -> Any:
        async def call(stream: Stream, metadata: Metadata) -> None:
            self._note(method, metadata)
            wanted = inner_call(method, metadata)
            found = [r for r in self._recorded if inner_call(r.method, r.texts) == wanted]
            if not found:
                raise NotFoundError(f"not recorded: {method}")
            for event in found[0].events:
                if event.kind != "message":
                    continue
                if event.is_client:
                    await stream.send(event.data)
                elif await stream.receive() is None:
                    return
            with suppress(Exception):
                while await stream.receive() is not None:
                    pass

        return call


def inner_call(method: str, metadata: Metadata) -> InnerCall:
    """Give what of a call inside of a session must be as recorded."""
    telling = []
    for key in _TELLING:
        values = tuple(sorted(str(text) for name, text in metadata if name == key))
        if values:
            telling.append((key, values))
    return method, tuple(telling)


def recorded_inner_calls(recording: Recording) -> list[InnerCall]:
    """Give the calls inside of sessions that were recorded, without health checks."""
    return [
        inner_call(rpc.method, rpc.texts)
        for rpc in recording.inner_calls
        if not rpc.method.startswith(_HEALTH)
    ]


def _reference_ids(message: bytes) -> list[str]:
    """Give the ids of references in an answer of `LLBBridge.Solve`, in a fixed order."""
    result = gateway_pb2.SolveResponse.FromString(message).result
    if result.WhichOneof("result") == "refs":
        return [result.refs.refs[key].id for key in sorted(result.refs.refs)]
    return [result.ref.id]


def _export_types(recording: Recording, session_id: str) -> dict[int, str]:
    for rpc in recording.calls:
        if rpc.method.endswith("Control/Solve"):
            request = control_pb2.SolveRequest.FromString(rpc.messages(of_caller=True)[0])
            if request.Session == session_id:
                return {number: each.Type for number, each in enumerate(request.Exporters)}
    return {}


def _folders(recording: Recording, folder: Path) -> dict[str, Path]:
    """Give what the command line offered by name."""
    named = {"context": folder, "dockerfile": folder}
    return named | _named_folders(recording, "--local", folder)


def _named_folders(recording: Recording, option: str, folder: Path) -> dict[str, Path]:
    """Give the folders of `OPTION NAME=FOLDER`."""
    pairs = [text for given, text in pairwise(recording.scenario["argv"]) if given == option]
    named = (text.partition("=") for text in pairs)
    return {name: folder / path for name, _, path in named}
