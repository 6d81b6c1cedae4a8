"""Recorded conversations: the scenarios here, and the messages of methods.

The format is told in README.md next to this file.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

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
from torana.gateway.testing.recordings import Recording, Rpc

ROOT = Path(__file__).parent


def names() -> list[str]:
    """Give the names of all scenarios."""
    return sorted(path.parent.name for path in ROOT.glob("*/scenario.json"))


@cache
def load(name: str) -> Recording:
    """Read one scenario."""
    return Recording.read(ROOT / name)


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
