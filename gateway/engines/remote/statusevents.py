"""A daemon's `StatusResponse` messages as progress events.

Spec: wire reference, control, Status.
"""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.timestamp_pb2 import Timestamp

from torana.core.errors import Position, SourceRange
from torana.core.oci.digest import Digest
from torana.core.solver.progress import (
    LogEvent,
    ProgressEvent,
    StatusEvent,
    VertexEvent,
    WarningEvent,
)
from torana.core.solver.vertex import ProgressGroup
from torana.gateway.protocol import control_pb2 as pb


def events(response: pb.StatusResponse) -> Iterator[ProgressEvent]:
    """Give the events of one message: vertices before what belongs to them."""
    for vertex in response.vertexes:
        group = vertex.progressGroup
        yield VertexEvent(
            digest=Digest(vertex.digest),
            name=vertex.name,
            inputs=tuple(Digest(digest) for digest in vertex.inputs),
            started=_seconds(vertex.started) if vertex.HasField("started") else None,
            completed=_seconds(vertex.completed) if vertex.HasField("completed") else None,
            cached=vertex.cached,
            error=vertex.error,
            progress_group=ProgressGroup(group.id, group.name, group.weak)
            if vertex.HasField("progressGroup")
            else None,
        )
    for status in response.statuses:
        yield StatusEvent(
            id=status.ID,
            vertex=Digest(status.vertex),
            name=status.name,
            current=status.current,
            total=status.total,
            timestamp=_seconds(status.timestamp),
            started=_seconds(status.started) if status.HasField("started") else None,
            completed=_seconds(status.completed) if status.HasField("completed") else None,
        )
    for log in response.logs:
        yield LogEvent(
            vertex=Digest(log.vertex),
            stream=log.stream,
            data=log.msg,
            timestamp=_seconds(log.timestamp),
        )
    for warning in response.warnings:
        yield WarningEvent(
            vertex=Digest(warning.vertex) if warning.vertex else None,
            short=warning.short.decode(errors="replace"),
            level=warning.level,
            detail=tuple(line.decode(errors="replace") for line in warning.detail),
            url=warning.url,
            ranges=tuple(
                SourceRange(
                    warning.info.filename,
                    Position(each.start.line, each.start.character),
                    Position(each.end.line, each.end.character),
                )
                for each in warning.ranges
            ),
            data=warning.info.data,
        )


def _seconds(moment: Timestamp) -> float:
    return moment.seconds + moment.nanos / 1e9
