"""Build records as `BuildHistoryRecord` messages."""

from __future__ import annotations

from typing import Final

from torana.gateway.daemon.history import EventType, HistoryEvent
from torana.gateway.daemon.record import Blob, BuildRecord, ResultInfo
from torana.gateway.daemon.statusmessages import timestamp
from torana.gateway.protocol import control_pb2 as pb
from torana.gateway.protocol import status_pb2

_TYPES: Final = {
    EventType.STARTED: pb.STARTED,
    EventType.COMPLETE: pb.COMPLETE,
    EventType.DELETED: pb.DELETED,
}


def event_message(event: HistoryEvent) -> pb.BuildHistoryEvent:
    """Give an event of the history as a message; of a deleted record only its ref."""
    if event.type == EventType.DELETED:
        record = pb.BuildHistoryRecord(Ref=event.record.ref)
    else:
        record = record_message(event.record)
    return pb.BuildHistoryEvent(type=_TYPES[event.type], record=record)


def record_message(record: BuildRecord) -> pb.BuildHistoryRecord:
    """Give a record as a message."""
    message = pb.BuildHistoryRecord(
        Ref=record.ref,
        Frontend=record.frontend,
        FrontendAttrs=dict(record.frontend_attrs),
        Exporters=[pb.Exporter(Type=type_, Attrs=dict(a)) for type_, a in record.exporters],
        CreatedAt=timestamp(record.created),
        ExporterResponse=dict(record.response),
        Generation=record.generation,
        pinned=record.is_pinned,
        numCachedSteps=record.steps.cached,
        numTotalSteps=record.steps.total,
        numCompletedSteps=record.steps.completed,
        numWarnings=record.steps.warnings,
    )
    if record.completed is not None:
        message.CompletedAt.CopyFrom(timestamp(record.completed))
    if record.error is not None:
        code, text = record.error
        message.error.CopyFrom(status_pb2.Status(code=code, message=text))
    for field, blob in (
        ("logs", record.logs),
        ("trace", record.trace),
        ("externalError", record.error_blob),
    ):
        if blob is not None:
            getattr(message, field).CopyFrom(_descriptor(blob))
    if record.result is not None:
        message.Result.CopyFrom(_info(record.result))
    for platform, info in record.results.items():
        message.Results[platform].CopyFrom(_info(info))
    return message


def _info(info: ResultInfo) -> pb.BuildResultInfo:
    message = pb.BuildResultInfo(Attestations=[_descriptor(blob) for blob in info.attestations])
    for number, blob in info.results.items():
        message.Results[number].CopyFrom(_descriptor(blob))
    if info.results:
        message.ResultDeprecated.CopyFrom(_descriptor(info.results[min(info.results)]))
    return message


def _descriptor(blob: Blob) -> pb.Descriptor:
    return pb.Descriptor(
        media_type=blob.media_type,
        digest=str(blob.digest),
        size=blob.size_bytes,
        annotations=dict(blob.annotations),
    )
