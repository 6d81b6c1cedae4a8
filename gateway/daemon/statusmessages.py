"""Progress events as `StatusResponse` messages, and the stored log that is made of them.

Spec: wire reference, control, Status; `application/vnd.buildkit.status.v0`: frames of a
little-endian 32-bit length and a message.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final

from google.protobuf.timestamp_pb2 import Timestamp

from torana.core.errors import CorruptError, SourceRange
from torana.core.oci.digest import Digest
from torana.core.solver.progress import (
    LogEvent,
    ProgressEvent,
    StatusEvent,
    VertexEvent,
    WarningEvent,
)
from torana.gateway.protocol import control_pb2 as pb
from torana.gateway.protocol import ops_pb2

_MAX_LOG_BYTES: Final = 1 << 20
_LENGTH: Final = struct.Struct("<I")
_NOWHERE: Final = Digest.of_text("frontend")  # of warnings about no vertex in particular


def timestamp(seconds: float) -> Timestamp:
    """Give a moment, in seconds since the epoch, as a message."""
    nanoseconds = round(seconds * 1e6) * 1000  # a float has no more than microseconds
    return Timestamp(seconds=nanoseconds // 10**9, nanos=nanoseconds % 10**9)


def responses(events: Iterable[ProgressEvent]) -> Iterator[pb.StatusResponse]:
    """Put events into messages, in order; more than one when there is much output."""
    response = pb.StatusResponse()
    log_bytes = 0
    for event in events:
        match event:
            case VertexEvent():
                response.vertexes.append(_vertex(event))
            case StatusEvent():
                response.statuses.append(_status(event))
            case WarningEvent():
                response.warnings.append(_warning(event))
            case LogEvent():
                for log in _logs(event):
                    if log_bytes + len(log.msg) > _MAX_LOG_BYTES:
                        yield response
                        response, log_bytes = pb.StatusResponse(), 0
                    response.logs.append(log)
                    log_bytes += len(log.msg)
    if response.ByteSize():
        yield response


def frame(response: pb.StatusResponse) -> bytes:
    """Give a message as it is stored."""
    data = response.SerializeToString()
    return _LENGTH.pack(len(data)) + data


def read_frames(file: BinaryIO) -> Iterator[pb.StatusResponse]:
    """Read a stored log.

    Raises:
        CorruptError: it ends in the middle of a message.
    """
    while head := file.read(_LENGTH.size):
        length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else -1
        data = file.read(max(length, 0))
        if len(data) != length:
            raise CorruptError("stored build log is cut off")
        yield pb.StatusResponse.FromString(data)


def _vertex(event: VertexEvent) -> pb.Vertex:
    group = event.progress_group
    return pb.Vertex(
        digest=str(event.digest),
        inputs=[str(digest) for digest in event.inputs],
        name=event.name,
        cached=event.cached,
        started=None if event.started is None else timestamp(event.started),
        completed=None if event.completed is None else timestamp(event.completed),
        error=event.error,
        progressGroup=None
        if group is None
        else ops_pb2.ProgressGroup(id=group.id, name=group.name, weak=group.weak),
    )


def _status(event: StatusEvent) -> pb.VertexStatus:
    return pb.VertexStatus(
        ID=event.id,
        vertex=str(event.vertex),
        name=event.name,
        current=event.current,
        total=event.total,
        timestamp=timestamp(event.timestamp),
        started=None if event.started is None else timestamp(event.started),
        completed=None if event.completed is None else timestamp(event.completed),
    )


def _logs(event: LogEvent) -> Iterator[pb.VertexLog]:
    for start in range(0, len(event.data), _MAX_LOG_BYTES):
        yield pb.VertexLog(
            vertex=str(event.vertex),
            timestamp=timestamp(event.timestamp),
            stream=event.stream,
            msg=event.data[start : start + _MAX_LOG_BYTES],
        )


def _warning(event: WarningEvent) -> pb.VertexWarning:
    warning = pb.VertexWarning(
        vertex=str(event.vertex or _NOWHERE),
        level=event.level or 1,
        short=event.short.encode(),
        detail=[line.encode() for line in event.detail],
        url=event.url,
        ranges=[_range(each) for each in event.ranges],
    )
    if event.data or event.ranges:
        filename = event.ranges[0].filename if event.ranges else ""
        warning.info.CopyFrom(ops_pb2.SourceInfo(filename=filename, data=event.data))
    return warning


def _range(range_: SourceRange) -> ops_pb2.Range:
    return ops_pb2.Range(
        start=ops_pb2.Position(line=range_.start.line, character=range_.start.column),
        end=ops_pb2.Position(line=range_.end.line, character=range_.end.column),
    )
