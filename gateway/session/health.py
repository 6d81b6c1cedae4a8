"""Health: the service that every client must have, and the engine's checks.

Spec: `grpc.health.v1.Health`; BuildKit's `monitorHealth`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from torana.core.errors import NotFoundError, ToranaError
from torana.core.records import dataclass
from torana.gateway.protocol.health_pb2 import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthListRequest,
    HealthListResponse,
)
from torana.gateway.session.transport import (
    Handler,
    Metadata,
    Session,
    Stream,
    Streaming,
    Unary,
    call,
    decode,
    value,
)

CHECK: Final = "/grpc.health.v1.Health/Check"
WATCH: Final = "/grpc.health.v1.Health/Watch"
LIST: Final = "/grpc.health.v1.Health/List"
CUSTOM_TIMEOUT: Final = "x-buildkit-session-health-custom-timeout"

_SERVING: Final = HealthCheckResponse(status=HealthCheckResponse.SERVING)


class Health:
    """The client's end: it serves as long as it answers."""

    def methods(self) -> Mapping[str, Handler]:
        return {CHECK: Unary(self._check), WATCH: Streaming(self._watch), LIST: Unary(self._list)}

    async def _check(self, request: bytes, metadata: Metadata) -> bytes:
        if decode(HealthCheckRequest, request, CHECK).service:
            raise NotFoundError("unknown service")
        return _SERVING.SerializeToString()

    async def _watch(self, stream: Stream, metadata: Metadata) -> None:
        request = decode(HealthCheckRequest, await stream.receive() or b"", WATCH)
        answer = _SERVING
        if request.service:
            answer = HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
        await stream.send(answer.SerializeToString())
        await asyncio.Event().wait()  # until the caller leaves

    async def _list(self, request: bytes, metadata: Metadata) -> bytes:
        decode(HealthListRequest, request, LIST)
        return HealthListResponse(statuses={"": _SERVING}).SerializeToString()


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthChecks:
    """How often a client is asked, and when it counts as gone."""

    interval_s: float = 5.0
    timeout_s: float = 15.0
    failures: int = 2  # in a row

    @classmethod
    def asked_for(cls, metadata: Metadata) -> HealthChecks:
        """Read what a client wants; less than a second is ignored."""
        text = value(metadata, CUSTOM_TIMEOUT)
        if text.isascii() and text.isdigit() and int(text) >= 1000:
            seconds = int(text) / 1000
            return cls(interval_s=seconds, timeout_s=seconds, failures=1)
        return cls()


async def watch(session: Session, checks: HealthChecks) -> str:
    """Check a client for ever; gives the reason when it has to be given up."""
    failures, last_s = 0, 0.0
    while True:
        await asyncio.sleep(checks.interval_s)
        started = time.monotonic()
        try:
            async with asyncio.timeout(max(checks.timeout_s, 1.5 * last_s)):
                await call(session, CHECK, HealthCheckRequest(), HealthCheckResponse)
        except (ToranaError, TimeoutError) as err:
            failures += 1
            if failures >= checks.failures:
                return f"health check failed: {str(err) or 'no answer in time'}"
        else:
            failures, last_s = 0, time.monotonic() - started
