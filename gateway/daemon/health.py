"""`Health`: the standard health service; a daemon that answers is healthy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from torana.gateway.protocol import health_pb2 as pb
from torana.gateway.protocol.errors import NOT_FOUND, RemoteError
from torana.gateway.protocol.health_pb2_grpc import HealthServicer
from torana.gateway.protocol.status_pb2 import Status

_SERVICES: Final = frozenset({"", "moby.buildkit.v1.Control"})
_SERVING: Final = pb.HealthCheckResponse(status=pb.HealthCheckResponse.SERVING)


class Health(HealthServicer):
    """Says that the server and its Control service are there, until `stop`."""

    def __init__(self) -> None:
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """End those that watch."""
        self._stopped.set()

    async def Check(self, request: pb.HealthCheckRequest, context: Any) -> pb.HealthCheckResponse:
        if request.service not in _SERVICES:
            raise RemoteError(Status(code=NOT_FOUND, message="unknown service"))
        return _SERVING

    async def List(self, request: pb.HealthListRequest, context: Any) -> pb.HealthListResponse:
        return pb.HealthListResponse(statuses=dict.fromkeys(_SERVICES, _SERVING))

    async def Watch(
        self, request: pb.HealthCheckRequest, context: Any
    ) -> AsyncIterator[pb.HealthCheckResponse]:
        is_known = request.service in _SERVICES
        unknown = pb.HealthCheckResponse(status=pb.HealthCheckResponse.SERVICE_UNKNOWN)
        yield _SERVING if is_known else unknown
        await self._stopped.wait()
        yield pb.HealthCheckResponse(status=pb.HealthCheckResponse.NOT_SERVING)
