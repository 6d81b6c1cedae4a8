"""`replay`: runs a frontend against a recording, offline, and tells what it did differently."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Any, Final

from torana.core.errors import NotFoundError, ToranaError, UnsupportedError
from torana.core.records import dataclass
from torana.gateway.client.remote import RemoteClient
from torana.gateway.client.transport import ExecCall
from torana.gateway.protocol import gateway_pb2 as pb
from torana.gateway.protocol.errors import error_of
from torana.gateway.protocol.status_pb2 import Status
from torana.gateway.recording.recording import Call, Recording, request_of, response_of

# What has to be the same for an answer to fit a call that is not the very same.
_KEYS: Final[dict[str, Callable[[Any], object]]] = {
    "Solve": lambda request: request.Frontend,
    "ReadFile": lambda request: (request.Ref, request.FilePath),
    "ReadDir": lambda request: (request.Ref, request.DirPath),
    "StatFile": lambda request: (request.Ref, request.Path),
    "Evaluate": lambda request: request.Ref,
    "ResolveImageConfig": lambda request: request.Ref,
    "ResolveSourceMeta": lambda request: request.Source.identifier,
    "Ping": lambda request: None,
    "Inputs": lambda request: None,
    "Warn": lambda request: None,
}


class NotRecordedError(NotFoundError):
    """A replayed frontend asks what it did not ask when it was recorded."""

    code = "NOT_RECORDED"


@dataclass(frozen=True, slots=True)
class Difference:
    """A call that is not as recorded: another request, one that is new, or one that is missing."""

    method: str
    recorded: Any = None
    replayed: Any = None


@dataclass(slots=True)
class Replay:
    """What came of a replay."""

    recording: Recording
    differences: list[Difference] = field(default_factory=list)
    calls: int = 0
    error: ToranaError | None = None  # that the frontend ended with

    @property
    def is_same(self) -> bool:
        return not self.differences


async def replay(recording: Recording, frontend: Any) -> Replay:
    """Run `frontend` with the answers of `recording`.

    Raises:
        UnsupportedError: processes of containers were used, which no recording has.
    """
    if recording.has_processes:
        raise UnsupportedError("the recording used containers, which cannot be replayed")
    outcome = Replay(recording)
    transport = ReplayTransport(outcome)
    client = await RemoteClient.over(
        transport, options=recording.options, session_id=recording.session_id
    )
    try:
        await client.finish(await frontend.build(client))
    except ToranaError as err:
        outcome.error = err
        await client.fail(err)
    transport.finish()
    return outcome


class ReplayTransport:
    """Answers with what was recorded."""

    def __init__(self, outcome: Replay) -> None:
        self._outcome = outcome
        self._left = list(outcome.recording.calls)

    async def call(self, method: str, request: Any) -> Any:
        self._outcome.calls += 1
        if method == "Return":
            self._compare_end(request)
            return pb.ReturnResponse()
        call = self._take(method, request)
        if call.error is not None:
            raise error_of(Status.FromString(call.error))
        return response_of(call)

    def exec_process(self) -> ExecCall:
        raise UnsupportedError("containers cannot be replayed")

    def _take(self, method: str, request: Any) -> Call:
        wanted = _identity(method, request)
        calls = [call for call in self._outcome.recording.calls if call.method == method]
        left = [call for call in self._left if call.method == method]
        # Twice the same question has twice the same answer.
        for call in (*left, *calls):
            if _identity(method, request_of(call)) == wanted:
                if call in self._left:
                    self._left.remove(call)
                return call
        key = _KEYS.get(method)
        for call in left if key is not None else ():
            recorded = request_of(call)
            assert key is not None
            if key(recorded) == key(request):
                self._left.remove(call)
                self._outcome.differences.append(Difference(method, recorded, request))
                return call
        self._outcome.differences.append(Difference(method, None, request))
        raise NotRecordedError(f"the recording has no answer to this: {method}")

    def _compare_end(self, request: Any) -> None:
        ends = [call for call in self._left if call.method == "Return"]
        recorded = request_of(ends[0]) if ends else None
        self._left = [call for call in self._left if call.method != "Return"]
        if recorded is None or _end(recorded) != _end(request):
            self._outcome.differences.append(Difference("Return", recorded, request))

    def finish(self) -> None:
        """Note the calls that were not made."""
        self._outcome.differences += [
            Difference(call.method, request_of(call)) for call in self._left
        ]


def _end(request: pb.ReturnRequest) -> object:
    if request.HasField("error"):
        return request.error.code, request.error.message
    return request.result.SerializeToString(deterministic=True)


def _identity(method: str, request: Any) -> bytes:
    """Give what has to be equal in two requests; for definitions that is their ops."""
    if method == "Solve":
        bare = pb.SolveRequest()
        bare.CopyFrom(request)
        for definition in (bare.Definition, *bare.FrontendInputs.values()):
            definition.ClearField("metadata")  # groups of progress have random ids
            definition.ClearField("Source")
        request = bare
    data: bytes = request.SerializeToString(deterministic=True)
    return data
