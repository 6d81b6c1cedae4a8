"""Every recorded message is known to our `.proto` files, to its last byte."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from tests.golden.wire import recording

from torana.gateway.protocol import details, gojson
from torana.gateway.protocol.errdefs_pb2 import Solve
from torana.gateway.protocol.errors import error_of, status_of
from torana.gateway.protocol.policysession_pb2 import DecisionResponse
from torana.gateway.testing.recordings import Event

NOT_OURS = {"/opentelemetry.proto.collector.trace.v1.TraceService/Export"}


def has_unknown(message: Message) -> bool:
    if len(UnknownFieldSet(message)):
        return True
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is None:
                continue
            parts = list(value.values())
        else:
            parts = list(value) if field.is_repeated else [value]
        if any(has_unknown(part) for part in parts):
            return True
    return False


@pytest.mark.parametrize("name", recording.names())
def test_messages_are_known(name: str) -> None:
    for rpc in recording.load(name).rpcs.values():
        for of_caller in (True, False):
            kind = recording.message_type(rpc, of_caller=of_caller)
            if kind is None:
                assert rpc.method in NOT_OURS
                continue
            for data in rpc.messages(of_caller=of_caller):
                message = kind.FromString(data)
                assert not has_unknown(message), rpc.method
                assert message.ByteSize() == len(data), rpc.method


def statuses() -> list[Event]:
    rpcs = (rpc for name in recording.names() for rpc in recording.load(name).rpcs.values())
    ends = (rpc.end for rpc in rpcs)
    return [end for end in ends if end is not None and end.kind == "status" and end.code]


def test_recorded_details_are_written_again_as_go_wrote_them() -> None:
    seen = set()
    for event in statuses():
        for detail in event.status().details:
            message = details.unpack(detail)
            assert message is not None, detail.type_url
            seen.add(type(message).__name__)
            if isinstance(message, Solve):  # protojson has no fixed text
                assert details.unpack(details.pack(message)) == message
            elif isinstance(message, DecisionResponse):
                assert gojson.load(details.pack(message).value, type(message)) == message
            else:
                assert details.pack(message) == detail
    assert seen >= {"Source", "Vertex", "ExitMessage", "Subrequest", "Frontend", "Solve", "Stack"}


def test_recorded_statuses_pass_through_unchanged() -> None:
    found = statuses()
    assert len(found) > 20
    for event in found:
        status = event.status()
        assert status_of(error_of(status)).SerializeToString() == status.SerializeToString()
