"""`Recording`: a conversation as a file: msgpack values, a header, the calls, their number."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Final

import msgpack

from torana.core.errors import CorruptError, ToranaError
from torana.core.records import dataclass
from torana.gateway.client.transport import ExecCall, Transport
from torana.gateway.protocol import gateway_pb2 as pb
from torana.gateway.protocol.errors import status_of
from torana.gateway.recording.redaction import Redaction

_FORMAT: Final = "torana-recording"
_VERSION: Final = 1
_MAX_BYTES: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Call:
    """A call and its answer, or the status that it failed with; as bytes of the messages."""

    method: str
    request: bytes
    response: bytes = b""
    error: bytes | None = None


@dataclass(slots=True)
class Recording:
    """A conversation of the frontend `frontend`, made by the version `torana`."""

    frontend: str
    options: Mapping[str, str]
    session_id: str
    torana: str
    calls: list[Call] = field(default_factory=list)
    has_processes: bool = False  # those of containers, which are not recorded

    def save(self, path: Path) -> None:
        """Write a file, complete or not at all."""
        draft = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with open(draft, "wb") as file:
                file.writelines(map(msgpack.packb, self._values()))
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    def _values(self) -> Iterator[dict[str, Any]]:
        yield {
            "format": _FORMAT,
            "version": _VERSION,
            "torana": self.torana,
            "frontend": self.frontend,
            "options": dict(self.options),
            "session_id": self.session_id,
            "has_processes": self.has_processes,
        }
        for call in self.calls:
            value: dict[str, Any] = {"method": call.method, "request": call.request}
            value |= {"response": call.response} if call.error is None else {"error": call.error}
            yield value
        yield {"calls": len(self.calls)}

    @classmethod
    def load(cls, path: Path) -> Recording:
        """Read a file.

        Raises:
            CorruptError: it is no recording, or of a later version.
        """
        try:
            with open(path, "rb") as file:
                header, *values, end = msgpack.Unpacker(file, max_buffer_size=_MAX_BYTES)
            if header["format"] != _FORMAT or header["version"] > _VERSION:
                raise CorruptError(f"not a recording that this version reads: `{path}`")
            if end["calls"] != len(values):
                raise CorruptError(f"recording is cut off: `{path}`")
            calls = [
                Call(v["method"], v["request"], v.get("response", b""), v.get("error"))
                for v in values
            ]
            return cls(
                frontend=header["frontend"],
                options=header["options"],
                session_id=header["session_id"],
                torana=header["torana"],
                calls=calls,
                has_processes=header["has_processes"],
            )
        except (ValueError, KeyError, TypeError, msgpack.UnpackException) as err:
            raise CorruptError(f"not a recording: `{path}`") from err


class RecordingTransport:
    """Passes calls on and keeps them."""

    def __init__(self, inner: Transport, recording: Recording, redaction: Redaction) -> None:
        self._inner = inner
        self._recording = recording
        self._redaction = redaction

    async def call(self, method: str, request: Any) -> Any:
        if method == "Solve":
            for definition in (*request.FrontendInputs.values(), request.Definition):
                self._redaction = self._redaction.with_ops(getattr(definition, "def"))
        try:
            response = await self._inner.call(method, request)
        except ToranaError as err:
            self._keep(method, request, error=status_of(err))
            raise
        self._keep(method, request, response)
        return response

    def exec_process(self) -> ExecCall:
        self._recording.has_processes = True
        return self._inner.exec_process()

    def _keep(self, method: str, request: Any, response: Any = None, error: Any = None) -> None:
        asked, answered, failed = map(self._bytes, (request, response, error))
        self._recording.calls.append(
            Call(method, asked or b"", answered or b"", None if error is None else failed)
        )

    def _bytes(self, message: Any) -> bytes | None:
        if message is None:
            return None
        return self._redaction.data(message.SerializeToString(deterministic=True))


def request_of(call: Call) -> Any:
    """Read the request of a call."""
    return _SERVICE_TYPES[call.method][0].FromString(call.request)


def response_of(call: Call) -> Any:
    """Read the answer to a call that did not fail."""
    return _SERVICE_TYPES[call.method][1].FromString(call.response)


def _service_types() -> dict[str, tuple[Any, Any]]:
    from google.protobuf.message_factory import GetMessageClass

    service = pb.DESCRIPTOR.services_by_name["LLBBridge"]
    return {
        method.name: (GetMessageClass(method.input_type), GetMessageClass(method.output_type))
        for method in service.methods
    }


_SERVICE_TYPES: Final = _service_types()
