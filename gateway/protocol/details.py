"""Typed details of errors: `Any`s that hold JSON under BuildKit's type URLs.

Spec: BuildKit's `errdefs`, `stack`; `ExitMessage` and `DecisionResponse` travel the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from torana.core.errors import CorruptError
from torana.gateway.protocol import errdefs_pb2, gateway_pb2, gojson, policysession_pb2, stack_pb2
from torana.gateway.protocol.status_pb2 import Status

_BUILDKIT: Final = "github.com/moby/buildkit/"
_ERRDEFS: Final = (
    errdefs_pb2.Vertex,
    errdefs_pb2.Source,
    errdefs_pb2.Frontend,
    errdefs_pb2.FrontendCap,
    errdefs_pb2.Subrequest,
    errdefs_pb2.Solve,
    errdefs_pb2.CompatibilityFeature,
    errdefs_pb2.ProvenanceMaterialsIncomplete,
)
_TYPES: Final[dict[str, type[Message]]] = {
    **{f"{_BUILDKIT}errdefs.{kind.DESCRIPTOR.name}+json": kind for kind in _ERRDEFS},
    f"{_BUILDKIT}stack.Stack+json": stack_pb2.Stack,
    f"{_BUILDKIT}gatewayapi.ExitMessage+json": gateway_pb2.ExitMessage,
    f"{_BUILDKIT}policysession.DecisionResponse+json": policysession_pb2.DecisionResponse,
}
_URLS: Final = {kind.DESCRIPTOR.full_name: url for url, kind in _TYPES.items()}


def pack(message: Message) -> AnyMessage:
    """Give the detail that holds `message`, one of the types above."""
    if isinstance(message, errdefs_pb2.Solve):  # the one that Go writes as protojson
        value = json_format.MessageToJson(message, indent=None).encode()
    else:
        value = gojson.dump(message)
    return AnyMessage(type_url=_URLS[message.DESCRIPTOR.full_name], value=value)


def unpack(detail: AnyMessage) -> Message | None:
    """Read a detail; None for types that are not known, and for damaged ones."""
    kind = _TYPES.get(detail.type_url)
    if kind is None:
        return None
    try:
        if kind is errdefs_pb2.Solve:
            return json_format.Parse(detail.value, errdefs_pb2.Solve(), ignore_unknown_fields=True)
        return gojson.load(detail.value, kind)
    except (CorruptError, json_format.ParseError, UnicodeDecodeError):
        return None


def unpacked(status: Status) -> Iterator[Message]:
    """Give the details of `status` that are known, in order."""
    for detail in status.details:
        message = unpack(detail)
        if message is not None:
            yield message
