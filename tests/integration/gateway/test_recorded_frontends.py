"""Frontend images as they talked to stock BuildKit: the same words get the same answers from us.

The frontend's side of each recording is played, message by message, to a bridge on the embedded
engine; only the ids of references are ours.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from tests.golden.wire import recording as wire
from tests.integration.gateway.conftest import Events

from torana.core.errors import ToranaError
from torana.core.worker import Worker
from torana.gateway.bridge.bridge import Bridge
from torana.gateway.bridge.service import hosted
from torana.gateway.client.environment import FrontendEnvironment
from torana.gateway.client.stdio import channel_over
from torana.gateway.engines.jobs import BuildParts, open_job
from torana.gateway.engines.runtime import chosen_runtime
from torana.gateway.protocol import gateway_pb2 as pb
from torana.gateway.protocol.gateway_pb2_grpc import LLBBridgeStub
from torana.gateway.testing.recordings import Recording, Rpc
from torana.plugins.manager import PluginManager

pytestmark = pytest.mark.needs("root")

# What the recorded daemon could and we cannot (yet), with the reason.
MISSING_CAPS = {
    "source.metaresolver.http.checksumrequest",
    "source.metaresolver.image.attestations",
    "exec.meta.network.proxy",
    "cache.azblob",
    "exporter.image.attestations",
    "cache.gha",
    "cache.s3",
}


@asynccontextmanager
async def bridged(
    recorded: Recording, worker: Worker, plugins: PluginManager, events: Events
) -> AsyncIterator[Bridge]:
    (process,) = recorded.scenario["frontends"]
    told = FrontendEnvironment.decode(dict(text.split("=", 1) for text in process["env"]))
    context = wire.ROOT / recorded.name / "context"
    folders = {"context": context, "dockerfile": context}
    parts = BuildParts(
        session_id=told.session_id,
        local=worker.local_source(folders, told.session_id),
        find_source=plugins.source,
        find_frontend=plugins.frontend,
        runtime=chosen_runtime(worker.root, plugins),
        options=told.options,
    )
    async with open_job(worker, parts, events) as (_, client):
        yield Bridge(client)


class Player:
    """Sends what a frontend sent."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub
        self._ids: dict[str, str] = {"": ""}  # ours by recorded

    async def play(self, rpc: Rpc) -> None:
        """Make one call and compare its answer."""
        method = rpc.method.rpartition("/")[2]
        kind = wire.message_type(rpc, of_caller=True)
        answer_kind = wire.message_type(rpc, of_caller=False)
        assert kind is not None
        assert answer_kind is not None
        request: Any = kind.FromString(rpc.messages(of_caller=True)[0])
        self._translate(method, request)
        assert rpc.end is not None
        wanted = rpc.end.status()
        try:
            answer = await getattr(self._stub, method)(request)
        except grpc.aio.AioRpcError as err:
            assert (err.code().value[0], err.details()) == (wanted.code, wanted.message)
            return
        assert wanted.code == 0, f"{method} should fail: {wanted.message}"
        self._compare(method, answer, answer_kind.FromString(rpc.messages(of_caller=False)[0]))

    def _translate(self, method: str, request: Any) -> None:
        if hasattr(request, "Ref") and isinstance(request.Ref, str) and method.startswith("Read"):
            request.Ref = self._ids[request.Ref]
        if method == "Return" and request.HasField("result"):
            request.result.ref.id = self._ids[request.result.ref.id]

    def _compare(self, method: str, answer: Any, recorded: Any) -> None:
        match method:
            case "Ping":
                for ours, theirs in (
                    (answer.FrontendAPICaps, recorded.FrontendAPICaps),
                    (answer.LLBCaps, recorded.LLBCaps),
                ):
                    lacking = {cap.ID for cap in theirs} - {cap.ID for cap in ours}
                    assert lacking <= MISSING_CAPS
            case "Solve":
                ours, theirs = answer.result.ref, recorded.result.ref
                assert getattr(ours, "def") == getattr(theirs, "def")
                self._ids[theirs.id] = ours.id
            case _:
                assert answer == recorded


async def _play(recorded: Recording, bridge: Bridge) -> None:
    async with hosted(bridge) as connection:
        end = connection.detach()
        async with channel_over(end, end) as channel:
            player = Player(LLBBridgeStub(channel))
            for rpc in recorded.rpcs.values():
                if rpc.connection.startswith("f"):
                    await player.play(rpc)


async def test_image_named_by_the_client(
    worker: Worker, plugins: PluginManager, events: Events
) -> None:
    recorded = wire.load("frontend-gateway")
    async with bridged(recorded, worker, plugins, events) as bridge:
        await _play(recorded, bridge)
        result = await bridge.returned()
        assert b"GREETING=hello" in result.metadata["containerimage.config"]
        assert result.ref is not None
        context = Path(wire.ROOT / recorded.name / "context")
        assert await result.ref.read_file("/docs/a.txt") == (context / "docs/a.txt").read_bytes()


async def test_image_named_by_a_syntax_line(
    worker: Worker, plugins: PluginManager, events: Events
) -> None:
    recorded = wire.load("frontend-syntax")
    async with bridged(recorded, worker, plugins, events) as bridge:
        await _play(recorded, bridge)
        assert (await bridge.returned()).ref is not None


async def test_error_of_an_image(worker: Worker, plugins: PluginManager, events: Events) -> None:
    recorded = wire.load("frontend-gateway-error")
    (returned,) = recorded.of("LLBBridge/Return", connection="f")
    sent = pb.ReturnRequest.FromString(returned.messages(of_caller=True)[0])
    async with bridged(recorded, worker, plugins, events) as bridge:
        await _play(recorded, bridge)
        with pytest.raises(ToranaError) as caught:
            await bridge.returned()
    assert caught.value.message == sent.error.message
    assert [e.filename for e in caught.value.sources] == ["Dockerfile"]
