"""The Control service as clients use it, without a session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc.aio
import pytest

from torana.core.llb import mkdir, rm, scratch
from torana.core.llb.definition import Definition
from torana.gateway.protocol import content_pb2, health_pb2, ops_pb2
from torana.gateway.protocol import control_pb2 as pb
from torana.gateway.protocol import gateway_pb2 as gw
from torana.gateway.protocol.content_pb2_grpc import ContentStub
from torana.gateway.protocol.control_pb2_grpc import ControlStub
from torana.gateway.protocol.gateway_pb2_grpc import LLBBridgeStub
from torana.gateway.protocol.health_pb2_grpc import HealthStub
from torana.gateway.testing.daemons import RunningDaemon

Start = Callable[..., RunningDaemon]
Channel = grpc.aio.Channel
T = TypeVar("T")
IMAGE = pb.Exporter(Type="image", Attrs={"name": "example.org/made:1"})


def begin(call: Awaitable[T]) -> asyncio.Future[T]:
    """Let a call go on in the background; grpc's calls are no coroutines."""

    async def wait() -> T:
        return await call

    return asyncio.ensure_future(wait())


def message(definition: Definition) -> ops_pb2.Definition:
    return ops_pb2.Definition.FromString(definition.encode())


def good() -> ops_pb2.Definition:
    return message(scratch().file(mkdir("/a").mkfile("/a/b", b"hello")).marshal())


def bad() -> ops_pb2.Definition:
    return message(scratch().file(rm("/is/not/there")).marshal())


async def statuses(control: Any, ref: str) -> list[pb.StatusResponse]:
    return [response async for response in control.Status(pb.StatusRequest(Ref=ref))]


async def history(control: Any, **request: Any) -> list[pb.BuildHistoryEvent]:
    call = control.ListenBuildHistory(pb.BuildHistoryRequest(EarlyExit=True, **request))
    return [event async for event in call]


def latest(responses: list[pb.StatusResponse]) -> dict[str, pb.Vertex]:
    return {vertex.name: vertex for response in responses for vertex in response.vertexes}


async def test_a_definition_is_built_and_exported(channel: Channel) -> None:
    control: Any = ControlStub(channel)
    early = asyncio.create_task(statuses(control, "one"))
    request = pb.SolveRequest(Ref="one", Definition=good(), Exporters=[IMAGE])
    response = await control.Solve(request)
    assert response.ExporterResponse["image.name"] == "example.org/made:1"
    assert response.ExporterResponse["containerimage.digest"].startswith("sha256:")
    for seen in (await early, await statuses(control, "one")):
        vertices = latest(seen)
        assert set(vertices) == {"mkdir /a, mkfile /a/b", "exporting to image"}
        assert all(v.HasField("completed") and not v.error for v in vertices.values())


async def test_a_client_drives_its_own_build(channel: Channel) -> None:
    control: Any = ControlStub(channel)
    bridge: Any = LLBBridgeStub(channel)
    key = (("buildkit-controlapi-buildid", "driven"),)
    ping = begin(bridge.Ping(gw.PingRequest(), metadata=key))
    await asyncio.sleep(0.05)  # it comes before the build, and waits
    solve = begin(control.Solve(pb.SolveRequest(Ref="driven", Exporters=[IMAGE])))
    pong = await ping
    assert "return" in {cap.ID for cap in pong.FrontendAPICaps}
    asked = gw.SolveRequest(Definition=good(), allowResultReturn=True, allowResultArrayRef=True)
    result = (await bridge.Solve(asked, metadata=key)).result
    read = gw.ReadFileRequest(Ref=result.ref.id, FilePath="/a/b")
    assert (await bridge.ReadFile(read, metadata=key)).Data == b"hello"
    result.metadata["frontend.note"] = b"kept"
    await bridge.Return(gw.ReturnRequest(result=result), metadata=key)
    answer = (await solve).ExporterResponse
    assert answer["frontend.note"] == "kept" and "containerimage.digest" in answer
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await bridge.ReadFile(read, metadata=key)
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND


async def test_the_probe_build_of_buildx_leaves_no_record(channel: Channel) -> None:
    control: Any = ControlStub(channel)
    bridge: Any = LLBBridgeStub(channel)
    key = (("buildkit-controlapi-buildid", "probe"),)
    request = pb.SolveRequest(Ref="probe", Internal=True, Cache=pb.CacheOptions())
    solve = begin(control.Solve(request))
    await bridge.Return(gw.ReturnRequest(result=gw.Result(ref=gw.Ref())), metadata=key)
    assert not (await solve).ExporterResponse
    assert await statuses(control, "probe") == []
    assert await history(control, Ref="probe") == []


async def test_calls_without_a_build_are_refused(channel: Channel) -> None:
    bridge: Any = LLBBridgeStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await bridge.Ping(gw.PingRequest())
    assert raised.value.code() == grpc.StatusCode.UNKNOWN
    assert raised.value.details() == "no buildid found in context"
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await bridge.Ping(gw.PingRequest(), metadata=(("buildkit-controlapi-buildid", "none"),))
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND
    assert raised.value.details() == "forwarding Ping: no such job none"


@pytest.mark.parametrize(
    ("request_", "message_"),
    [
        (
            pb.SolveRequest(Ref="r", Exporters=[pb.Exporter(Type="floppy")]),
            'exporter "floppy" could not be found',
        ),
        (pb.SolveRequest(Ref="r", Frontend="nosuch.v0"), "invalid frontend: nosuch.v0"),
        (
            pb.SolveRequest(Ref="r", Frontend="dockerfile.v0", Definition=good()),
            "cannot solve with both Definition and Frontend specified",
        ),
        (
            pb.SolveRequest(Ref="r", Entitlements=["security.insecure"]),
            "granting entitlement security.insecure is not allowed by build daemon configuration",
        ),
        (pb.SolveRequest(Ref="r", CompatibilityVersion=11), "unsupported compatibility version"),
        (pb.SolveRequest(), "build has no id"),
    ],
)
async def test_wrong_requests(channel: Channel, request_: pb.SolveRequest, message_: str) -> None:
    control: Any = ControlStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await control.Solve(request_)
    assert raised.value.code() == grpc.StatusCode.UNKNOWN
    assert message_ in (raised.value.details() or "")


async def test_records_and_their_logs_survive_a_restart(start: Start) -> None:
    first = start()
    async with grpc.aio.insecure_channel(first.target) as channel:
        control: Any = ControlStub(channel)
        await control.Solve(pb.SolveRequest(Ref="good", Definition=good(), Exporters=[IMAGE]))
        with pytest.raises(grpc.aio.AioRpcError):
            await control.Solve(pb.SolveRequest(Ref="bad", Definition=bad()))
        live = await statuses(control, "bad")
    assert first.stop() == 0
    second = start()
    async with grpc.aio.insecure_channel(second.target) as channel:
        control = ControlStub(channel)
        events = {event.record.Ref: event.record for event in await history(control)}
        assert set(events) == {"good", "bad"}
        assert events["good"].numCompletedSteps == 2 and not events["good"].HasField("error")
        assert events["good"].Exporters[0].Attrs["name"] == "example.org/made:1"
        assert events["bad"].error.code == 2 and events["bad"].error.message
        assert latest(await statuses(control, "bad")) == latest(live)
        # Blobs of the record can be read on the same socket.
        content: Any = ContentStub(channel)
        trace = events["good"].trace.digest
        info = (await content.Info(content_pb2.InfoRequest(digest=trace))).info
        call = content.Read(content_pb2.ReadContentRequest(digest=trace, offset=1))
        data = b"".join([piece.data async for piece in call])
        assert len(data) == info.size - 1 and b'"Name": "build"' in data
        # Pin, filter, delete.
        await control.UpdateBuildHistory(pb.UpdateBuildHistoryRequest(Ref="good", Pinned=True))
        (event,) = await history(control, Filter=["status==completed"])
        assert event.record.pinned and event.record.Generation == 1
        await control.UpdateBuildHistory(pb.UpdateBuildHistoryRequest(Ref="good", Delete=True))
        assert [event.record.Ref for event in await history(control)] == ["bad"]
        with pytest.raises(grpc.aio.AioRpcError, match="not found"):
            await content.Info(content_pb2.InfoRequest(digest=trace))


async def test_builds_are_told_as_they_happen(channel: Channel) -> None:
    control: Any = ControlStub(channel)
    call = control.ListenBuildHistory(pb.BuildHistoryRequest(ActiveOnly=True))
    headers = dict(await call.initial_metadata())
    assert "buildkit-current-timestamp" in headers
    await control.Solve(pb.SolveRequest(Ref="told", Definition=good()))
    kinds = [(event.type, event.record.Ref) for event in [await call.read(), await call.read()]]
    assert kinds == [(pb.STARTED, "told"), (pb.COMPLETE, "told")]
    call.cancel()


async def test_records_of_the_cache_are_listed_and_pruned(channel: Channel) -> None:
    control: Any = ControlStub(channel)
    await control.Solve(pb.SolveRequest(Ref="cached", Definition=good()))
    usage = await control.DiskUsage(pb.DiskUsageRequest(filter=["", "id==none"]))
    (record,) = [each for each in usage.record if each.Description == "mkdir /a, mkfile /a/b"]
    assert record.RecordType == "regular" and record.Size and not record.InUse
    none = await control.DiskUsage(pb.DiskUsageRequest(filter=["type==source.local"]))
    assert not none.record
    gone = [each.ID async for each in control.Prune(pb.PruneRequest(all=True))]
    assert record.ID in gone
    assert not (await control.DiskUsage(pb.DiskUsageRequest())).record


async def test_cancelling_solve_ends_the_build(channel: Channel) -> None:
    control: Any = ControlStub(channel)
    bridge: Any = LLBBridgeStub(channel)
    key = (("buildkit-controlapi-buildid", "given-up"),)
    solve = control.Solve(pb.SolveRequest(Ref="given-up"))
    await bridge.Ping(gw.PingRequest(), metadata=key)
    status = asyncio.create_task(statuses(control, "given-up"))
    solve.cancel()
    assert await status == []
    (event,) = await history(control, Ref="given-up", Filter=["status==canceled"])
    assert event.record.error.message == "context canceled"


async def test_workers_version_and_health(channel: Channel, daemon: RunningDaemon) -> None:
    control: Any = ControlStub(channel)
    (worker,) = (await control.ListWorkers(pb.ListWorkersRequest())).record
    assert worker.platforms[0].OS == "linux" and len(worker.GCPolicy) == 4
    assert worker.ID == (daemon.root / "workerid").read_text()
    version = (await control.Info(pb.InfoRequest())).buildkitVersion
    assert version == worker.BuildkitVersion and version.version.startswith("v")
    health: Any = HealthStub(channel)
    answer = await health.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await health.Check(health_pb2.HealthCheckRequest(service="other"))
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND
