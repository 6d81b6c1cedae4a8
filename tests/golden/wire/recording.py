"""Recorded conversations: scenarios, their events by RPC, and the messages of methods.

The format is told in README.md next to this file.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message

from torana.gateway.protocol import (  # noqa: F401  (fills the pool of descriptors)
    content_pb2,
    control_pb2,
    exporter_pb2,
    filesync_pb2,
    gateway_pb2,
    health_pb2,
    policysession_pb2,
    secrets_pb2,
    sshforward_pb2,
    upload_pb2,
)
from torana.gateway.protocol.fsutil_pb2 import Packet
from torana.gateway.protocol.status_pb2 import Status

ROOT = Path(__file__).parent
DETAILS_KEY = "grpc-status-details-bin"

Metadata = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Event:
    """One line of events.jsonl; `index` orders the whole conversation."""

    index: int
    conn: str
    rpc: int
    direction: str  # such as "client->daemon"
    kind: str  # "call", "headers", "message", "half-close", "status", "reset"
    fields: dict[str, Any]

    @property
    def sender(self) -> str:
        return self.direction.partition("->")[0]

    @property
    def data(self) -> bytes:
        """The message of a "message" event."""
        return base64.b64decode(self.fields["data"])

    @property
    def metadata(self) -> Metadata:
        return [(key, value) for key, value in self.fields.get("metadata", ())]

    def status(self) -> Status:
        """Give what a "status" event ended the call with, details included."""
        for key, value in self.fields.get("trailers", ()):
            if key == DETAILS_KEY:
                return Status.FromString(base64.b64decode(value))
        return Status(code=self.fields["code"], message=self.fields.get("message", ""))


@dataclass(slots=True)
class Rpc:
    """One RPC, its events in order."""

    number: int
    conn: str
    method: str  # full path
    caller: str  # "client", "daemon" or "frontend"
    metadata: Metadata
    events: list[Event] = field(default_factory=list)

    def messages(self, *, of_caller: bool) -> list[bytes]:
        """Give the messages that one side sent."""
        return [
            event.data
            for event in self.events
            if event.kind == "message" and (event.sender == self.caller) is of_caller
        ]

    def values(self, key: str) -> list[str]:
        """Give the values of a metadata key, in order."""
        return [value for name, value in self.metadata if name == key]

    @property
    def started(self) -> int:
        return self.events[0].index

    @property
    def end(self) -> Event | None:
        """The status or reset; None where the connection just ended."""
        found = (e for e in reversed(self.events) if e.kind in ("status", "reset"))
        return next(found, None)


@dataclass(frozen=True, slots=True)
class Recording:
    """One scenario."""

    name: str
    scenario: dict[str, Any]
    rpcs: dict[int, Rpc]

    def of(self, method: str, *, conn: str = "") -> list[Rpc]:
        """Give the RPCs of a method, told by the end of its path, in order of their start."""
        return [
            rpc
            for rpc in self.rpcs.values()
            if rpc.method.endswith(method) and rpc.conn.startswith(conn)
        ]


def names() -> list[str]:
    """Give the names of all scenarios."""
    return sorted(path.parent.name for path in ROOT.glob("*/scenario.json"))


@cache
def load(name: str) -> Recording:
    """Read one scenario."""
    folder = ROOT / name
    scenario = json.loads((folder / "scenario.json").read_text())
    rpcs: dict[int, Rpc] = {}
    for event in _events(folder / "events.jsonl"):
        if event.kind == "call":
            fields = event.fields
            caller = event.sender
            rpc = Rpc(event.rpc, event.conn, fields["method"], caller, event.metadata)
            rpcs[event.rpc] = rpc
        if event.rpc in rpcs:
            rpcs[event.rpc].events.append(event)
    return Recording(name, scenario, rpcs)


def _events(path: Path) -> Iterator[Event]:
    with path.open() as lines:
        for line in lines:
            fields = json.loads(line)
            rpc = fields.get("rpc", 0)
            yield Event(fields["i"], fields["conn"], rpc, fields["dir"], fields["ev"], fields)


def message_type(rpc: Rpc, *, of_caller: bool) -> type[Message] | None:
    """Give the type of what one side sends on `rpc`; None for services that we do not have.

    A directory export is declared with `BytesMessage` and carries `Packet`s.
    """
    service, _, method = rpc.method.lstrip("/").rpartition("/")
    if service == "moby.filesync.v1.FileSend" and _is_packets(rpc):
        return Packet
    try:
        found = descriptor_pool.Default().FindServiceByName(service).methods_by_name[method]
    except KeyError:
        return None
    kind = found.input_type if of_caller else found.output_type
    return message_factory.GetMessageClass(kind)


def _is_packets(rpc: Rpc) -> bool:
    """Tell a directory export by what its receiver says: one of files says nothing."""
    return bool(rpc.messages(of_caller=False))


def is_unary(rpc: Rpc) -> bool:
    """Tell by the service whether a method has one request and one answer."""
    service, _, method = rpc.method.lstrip("/").rpartition("/")
    found = descriptor_pool.Default().FindServiceByName(service).methods_by_name[method]
    return not (found.client_streaming or found.server_streaming)
