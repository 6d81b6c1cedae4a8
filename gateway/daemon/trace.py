"""The trace of a build: one span for the build, one for each run of a vertex.

Spans are made from what happened when the build is over. They are kept with the build's record, and
sent to a collector where `OTEL_EXPORTER_OTLP_ENDPOINT` names one (extra `torana[telemetry]`).

Spec: the stored form is that of the Go SDK's span stubs (`application/vnd.buildkit.otlp.json.v0`).
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from torana import __version__
from torana.core.errors import UnsupportedError
from torana.core.records import dataclass
from torana.core.solver.progress import ProgressEvent, VertexEvent
from torana.gateway.daemon.record import BuildRecord

log = logging.getLogger(__name__)

_SERVICE: Final = "toranad"
_TIMEOUT_S: Final = 10.0
_PARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_NO_SPAN: Final = "0" * 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Something that took time; ids are lower-case hex, times seconds since the epoch."""

    trace_id: str
    span_id: str
    parent_id: str = _NO_SPAN
    is_parent_remote: bool = False
    name: str
    started: float
    ended: float
    attributes: Mapping[str, str] = field(default_factory=dict)
    error: str = ""


def spans_of(
    record: BuildRecord, events: Iterable[ProgressEvent], traceparent: str = ""
) -> list[Span]:
    """Give the spans of a finished build, its own first.

    `traceparent` is what the client sent with Solve (W3C trace context), or empty.
    """
    found = _PARENT.fullmatch(traceparent)
    trace_id = found[1] if found else secrets.token_hex(16)
    end = record.created if record.completed is None else record.completed
    build = Span(
        trace_id=trace_id,
        span_id=secrets.token_hex(8),
        parent_id=found[2] if found else _NO_SPAN,
        is_parent_remote=found is not None,
        name="build",
        started=record.created,
        ended=end,
        attributes={"ref": record.ref, "frontend": record.frontend},
        error="" if record.error is None else record.error[1],
    )
    steps: dict[tuple[str, float], Span] = {}  # a vertex may run twice: key, then work
    for event in events:
        if not isinstance(event, VertexEvent) or event.started is None:
            continue
        before = steps.get((event.digest, event.started))
        steps[event.digest, event.started] = Span(
            trace_id=trace_id,
            span_id=secrets.token_hex(8) if before is None else before.span_id,
            parent_id=build.span_id,
            name=event.name,
            started=event.started,
            ended=end if event.completed is None else event.completed,
            attributes={"vertex": str(event.digest), "cached": str(event.cached).lower()},
            error=event.error,
        )
    return [build, *steps.values()]


def to_json(spans: Sequence[Span]) -> bytes:
    """Give the stored form: one object after the other."""
    return b"".join(json.dumps(_stub(span)).encode() + b"\n" for span in spans)


def _stub(span: Span) -> dict[str, Any]:
    return {
        "Name": span.name,
        "SpanContext": _context(span.trace_id, span.span_id, False),
        "Parent": _context(
            "0" * 32 if span.parent_id == _NO_SPAN else span.trace_id,
            span.parent_id,
            span.is_parent_remote,
        ),
        "SpanKind": 1,
        "StartTime": _time(span.started),
        "EndTime": _time(span.ended),
        "Attributes": _attributes(span.attributes),
        "Events": None,
        "Links": None,
        "Status": {"Code": "Error" if span.error else "Unset", "Description": span.error},
        "DroppedAttributes": 0,
        "DroppedEvents": 0,
        "DroppedLinks": 0,
        "ChildSpanCount": 0,
        "Resource": _attributes({"service.name": _SERVICE, "service.version": __version__}),
        "InstrumentationScope": {"Name": "torana", "Version": "", "SchemaURL": ""},
    }


def _context(trace_id: str, span_id: str, is_remote: bool) -> dict[str, Any]:
    flags = "00" if span_id == _NO_SPAN else "01"
    return {
        "TraceID": trace_id,
        "SpanID": span_id,
        "TraceFlags": flags,
        "TraceState": "",
        "Remote": is_remote,
    }


def _attributes(values: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"Key": k, "Value": {"Type": "STRING", "Value": v}} for k, v in values.items()]


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class SpanSink(Protocol):
    """Takes the spans of finished builds; called in a thread, may block."""

    def send(self, spans: Sequence[Span]) -> None: ...

    def forward(self, request: bytes) -> None:
        """Pass on spans of a client: an `ExportTraceServiceRequest`."""
        ...

    def close(self) -> None: ...


def collector_sink(environment: Mapping[str, str] = os.environ) -> SpanSink | None:
    """Give a sink for the collector that `OTEL_*` variables name, None without one.

    Raises:
        UnsupportedError: one is named, but the extra is not installed.
    """
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if environment.get("OTEL_SDK_DISABLED") == "true" or not any(map(environment.get, names)):
        return None
    try:
        return _OTLPSink()
    except ImportError as err:
        raise UnsupportedError(
            "traces need the OpenTelemetry SDK", hint="pip install 'torana[telemetry]'"
        ) from err


def _traces_url(environment: Mapping[str, str]) -> str:
    """Give where spans go. Spec: OpenTelemetry, OTLP exporter configuration."""
    base = environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").rstrip("/")
    return environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or f"{base}/v1/traces"


class _OTLPSink:
    """Sends to a collector over OTLP/HTTP."""

    def __init__(self) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource

        self._exporter = OTLPSpanExporter()
        self._resource = Resource.create(
            {"service.name": os.environ.get("OTEL_SERVICE_NAME", _SERVICE)}
        )

    def send(self, spans: Sequence[Span]) -> None:
        self._exporter.export([self._readable(span) for span in spans])

    def forward(self, request: bytes) -> None:
        message = urllib.request.Request(
            _traces_url(os.environ), request, {"Content-Type": "application/x-protobuf"}
        )
        try:
            urllib.request.urlopen(message, timeout=_TIMEOUT_S).close()
        except OSError as err:
            log.warning("spans of a client were not taken by the collector: %s", err)

    def close(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the SDK's

    def _readable(self, span: Span) -> Any:
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

        def context(span_id: str, is_remote: bool) -> SpanContext:
            return SpanContext(
                int(span.trace_id, 16), int(span_id, 16), is_remote, TraceFlags(TraceFlags.SAMPLED)
            )

        has_parent = span.parent_id != _NO_SPAN
        return ReadableSpan(
            name=span.name,
            context=context(span.span_id, False),
            parent=context(span.parent_id, span.is_parent_remote) if has_parent else None,
            resource=self._resource,
            attributes=dict(span.attributes),
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET),
            start_time=int(span.started * 1e9),
            end_time=int(span.ended * 1e9),
        )
