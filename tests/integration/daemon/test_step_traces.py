"""Spans that programs of steps send: by a socket in the step, on to the daemon's collector."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import grpc.aio
import pytest

from torana.core.llb import mkdir, scratch
from torana.gateway.protocol import control_pb2 as pb
from torana.gateway.protocol import ops_pb2
from torana.gateway.protocol.control_pb2_grpc import ControlStub
from torana.gateway.testing.daemons import RunningDaemon

pytestmark = pytest.mark.needs("root", "busybox", "crun", "runc", "bwrap")

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
PARENT = f"00-{'1' * 32}-{'2' * 16}-01"
SPANS = b"spans of a step"


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """A collector's address, and what it got."""
    pytest.importorskip("opentelemetry.sdk", reason="needs the extra `telemetry`")
    bodies: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", bodies
        server.shutdown()
        thread.join()


def step(script: str) -> ops_pb2.Definition:
    """A build that can only succeed if the shell script does."""
    busybox = Path("/bin/busybox").read_bytes()
    base = scratch().file(mkdir("/bin").mkfile("/bin/busybox", busybox, mode=0o755))
    ran = base.run(["/bin/busybox", "sh", "-exc", script]).root
    return ops_pb2.Definition.FromString(ran.marshal().encode())


async def solve(daemon: RunningDaemon, script: str) -> None:
    async with grpc.aio.insecure_channel(daemon.target) as channel:
        control: Any = ControlStub(channel)
        await control.Solve(
            pb.SolveRequest(Ref="traced", Definition=step(script)),
            metadata=[("traceparent", PARENT)],
            timeout=60,
        )


@pytest.mark.parametrize("runtime", ["crun", "runc", "bubblewrap"])
async def test_a_step_reaches_the_collector(
    start: Callable[..., RunningDaemon], collector: tuple[str, list[bytes]], runtime: str
) -> None:
    endpoint, bodies = collector
    daemon = start("--oci-worker-binary", runtime, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    script = f"""\
busybox test -S /dev/otel-grpc.sock
test $OTEL_TRACES_EXPORTER = otlp && test $OTEL_EXPORTER_OTLP_TRACES_PROTOCOL = grpc
test $OTEL_EXPORTER_OTLP_TRACES_ENDPOINT = unix:///dev/otel-grpc.sock
test $TRACEPARENT = {PARENT}"""
    await solve(daemon, script)
    path = daemon.root / "otel-grpc.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o666  # steps run as anybody
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        export: Any = channel.unary_unary(EXPORT)
        assert await export(SPANS, timeout=20) == b""
    assert daemon.stop() == 0
    assert SPANS in bodies
    assert not path.exists()


async def test_no_collector_no_socket(start: Callable[..., RunningDaemon]) -> None:
    await solve(start(), 'busybox test ! -e /dev/otel-grpc.sock; test -z "$TRACEPARENT"')
