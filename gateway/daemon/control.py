"""`Control`: BuildKit's Control service. It translates; the work is done elsewhere.

Spec: wire reference, control.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from torana.core.cache.filters import parse_filters as cache_filters
from torana.gateway.daemon.builds import STATUS_WAIT_S
from torana.gateway.daemon.history import EventType, HistoryEvent
from torana.gateway.daemon.housekeeping import prune_policy
from torana.gateway.daemon.identity import in_force
from torana.gateway.daemon.recordfilter import parse_filters
from torana.gateway.daemon.recordmessages import event_message
from torana.gateway.daemon.solvemessages import read_request
from torana.gateway.daemon.statusmessages import read_frames, responses
from torana.gateway.daemon.workermessages import usage_message, version_message, worker_message
from torana.gateway.protocol import control_pb2 as pb
from torana.gateway.protocol.control_pb2_grpc import ControlServicer

if TYPE_CHECKING:
    from torana.gateway.daemon.daemon import Daemon

_CLOCK: Final = "buildkit-current-timestamp"
_NS: Final = 1_000_000_000


class Control(ControlServicer):
    """Answers clients on behalf of a daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    # Builds

    async def Solve(self, request: pb.SolveRequest, context: Any) -> pb.SolveResponse:
        metadata = dict(context.invocation_metadata() or ())
        wanted = read_request(
            request,
            granted=self._daemon.config.grantable,
            traceparent=str(metadata.get("traceparent", "")),
        )
        response = await self._daemon.build(wanted)
        return pb.SolveResponse(ExporterResponse=response)

    async def Status(
        self, request: pb.StatusRequest, context: Any
    ) -> AsyncIterator[pb.StatusResponse]:
        await _send_clock(context)
        daemon = self._daemon
        build = daemon.builds.find(request.Ref)
        if build is None:
            record = daemon.history.get(request.Ref)
            if record is not None:
                if record.logs is not None:
                    with daemon.history.content.open(record.logs.digest) as file:
                        for response in read_frames(file):
                            yield response
                return
            build = await daemon.builds.get(request.Ref, STATUS_WAIT_S)
        async for batch in build.progress.batches():
            for response in responses(batch):
                yield response

    async def Session(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # grpc.aio streams either way
        await self._daemon.sessions.serve(context)

    # What there is

    async def ListWorkers(
        self, request: pb.ListWorkersRequest, context: Any
    ) -> pb.ListWorkersResponse:
        daemon = self._daemon
        matches = cache_filters(tuple(text for text in request.filter if text))
        identity = await in_force(daemon.identity, daemon.worker, daemon.config.worker)
        if not matches(identity.field):
            return pb.ListWorkersResponse()
        record = worker_message(identity, daemon.housekeeping.policies)
        return pb.ListWorkersResponse(record=[record])

    async def Info(self, request: pb.InfoRequest, context: Any) -> pb.InfoResponse:
        return pb.InfoResponse(buildkitVersion=version_message())

    async def DiskUsage(self, request: pb.DiskUsageRequest, context: Any) -> pb.DiskUsageResponse:
        usages = await self._daemon.housekeeping.disk_usage(
            request.filter, age_limit_s=request.ageLimit / _NS
        )
        return pb.DiskUsageResponse(record=[usage_message(usage) for usage in usages])

    async def Prune(self, request: pb.PruneRequest, context: Any) -> AsyncIterator[pb.UsageRecord]:
        async with aclosing(self._daemon.housekeeping.prune(prune_policy(request))) as gone:
            async for usage in gone:
                yield usage_message(usage)

    # What was

    async def ListenBuildHistory(
        self, request: pb.BuildHistoryRequest, context: Any
    ) -> AsyncIterator[pb.BuildHistoryEvent]:
        await _send_clock(context)
        matches = parse_filters(request.Filter)
        history = self._daemon.history
        with history.listen() as news:
            for record in history.active():
                if request.Ref in ("", record.ref):
                    yield event_message(HistoryEvent(EventType.STARTED, record))
            if not request.ActiveOnly:
                for record in history.records(
                    lambda record: request.Ref in ("", record.ref) and matches(record),
                    limit=request.Limit,
                ):
                    yield event_message(HistoryEvent(EventType.COMPLETE, record))
            while not request.EarlyExit:
                event = await news.get()
                if event is None:
                    return
                if request.Ref in ("", event.record.ref):
                    yield event_message(event)

    async def UpdateBuildHistory(
        self, request: pb.UpdateBuildHistoryRequest, context: Any
    ) -> pb.UpdateBuildHistoryResponse:
        history = self._daemon.history
        if request.Delete:
            history.delete(request.Ref)
        elif not request.Finalize:  # a record is complete as soon as it is there
            history.pin(request.Ref, request.Pinned)
        return pb.UpdateBuildHistoryResponse()


async def _send_clock(context: Any) -> None:
    """Let clients correct the difference of clocks."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    await context.send_initial_metadata(((_CLOCK, now),))
