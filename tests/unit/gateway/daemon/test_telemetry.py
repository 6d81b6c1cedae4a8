"""Metrics, traces and the pages of the debug server."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from torana.core.errors import UserError
from torana.core.oci.digest import Digest
from torana.core.solver.progress import VertexEvent
from torana.gateway.daemon.debughttp import DebugServer, json_page
from torana.gateway.daemon.metrics import Metrics
from torana.gateway.daemon.record import BuildRecord, Steps
from torana.gateway.daemon.trace import Span, collector_sink, spans_of, to_json

RECORD = BuildRecord(
    ref="r", created=10.0, completed=12.0, error=(2, "step failed"), steps=Steps(total=3, cached=1)
)
PARENT = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
STEP = Digest.of_text("step")


def spans() -> Sequence[Span]:
    events = [
        VertexEvent(digest=STEP, name="RUN x"),
        VertexEvent(digest=STEP, name="RUN x", started=10.5),
        VertexEvent(digest=STEP, name="RUN x", started=10.5, completed=11.0),
        VertexEvent(digest=STEP, name="RUN x", started=11.0),
    ]
    return spans_of(RECORD, events, PARENT)


def test_builds_are_counted() -> None:
    metrics = Metrics(lambda: 4)
    metrics.build_ended(RECORD)
    text = metrics.text()[1].decode()
    assert 'buildkit_builds_total{error_code="2",frontend="",status="error"} 1.0' in text
    assert 'buildkit_builds_steps_total{kind="total"} 3.0' in text
    assert "buildkit_build_duration_seconds_sum 2.0" in text
    assert "torana_builds_running 4.0" in text


def test_each_run_of_a_vertex_is_a_span_of_the_build() -> None:
    build, first, second = spans()
    assert {span.trace_id for span in (build, first, second)} == {"ab" * 16}
    assert build.parent_id == "cd" * 8 and build.error == "step failed"
    assert first.parent_id == second.parent_id == build.span_id
    assert (first.started, first.ended) == (10.5, 11.0)
    assert (second.started, second.ended) == (11.0, 12.0)  # ended with the build
    assert len({span.span_id for span in (build, first, second)}) == 3


def test_a_trace_of_its_own_without_a_parent() -> None:
    (build,) = spans_of(RECORD, [], "garbage")
    assert len(build.trace_id) == 32 and not build.is_parent_remote


def test_stored_form() -> None:
    lines = to_json(spans()).splitlines()
    stub = json.loads(lines[0])
    assert stub["Name"] == "build" and stub["Parent"]["Remote"] is True
    assert stub["Status"] == {"Code": "Error", "Description": "step failed"}
    assert stub["StartTime"] == "1970-01-01T00:00:10.000000Z"


def test_no_collector_unless_named() -> None:
    assert collector_sink({}) is None
    assert collector_sink({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "x"}) is None


def test_a_collector_gets_the_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    bodies: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            import gzip

            body = self.rfile.read(int(self.headers["Content-Length"]))
            is_packed = self.headers.get("Content-Encoding") == "gzip"
            bodies.append(gzip.decompress(body) if is_packed else body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = Thread(target=server.serve_forever)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    try:
        sink = collector_sink()
        assert sink is not None
        sink.send(spans())
        sink.forward(b"spans of a client")
        sink.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert bodies[1:] == [b"spans of a client"]
    request = ExportTraceServiceRequest.FromString(bodies[0])
    (resource,) = request.resource_spans
    names = [span.name for scope in resource.scope_spans for span in scope.spans]
    assert names == ["build", "RUN x", "RUN x"]


def test_pages() -> None:
    server = DebugServer("127.0.0.1:0", {"/a": json_page(lambda: {"b": 1}), "/bad": lambda: 1 / 0})  # type: ignore[dict-item,return-value]  # a page that fails
    server.start()
    base = f"http://127.0.0.1:{server.port}"
    try:
        with urllib.request.urlopen(f"{base}/a") as answer:
            assert json.load(answer) == {"b": 1}
        for path, status in (("/none", 404), ("/bad", 500)):
            with pytest.raises(urllib.error.HTTPError) as raised:
                urllib.request.urlopen(base + path)
            assert raised.value.code == status
            raised.value.close()
    finally:
        server.close()


def test_wrong_debug_address() -> None:
    with pytest.raises(UserError, match="invalid debug address"):
        DebugServer("localhost", {})
