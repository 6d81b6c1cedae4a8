"""The suites on our gRPC client against our own service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest
from tests.integration.gateway.conftest import SESSION, busybox_of

from torana.gateway.bridge.bridge import Bridge
from torana.gateway.bridge.inprocess import InProcessClient
from torana.gateway.bridge.service import served
from torana.gateway.client.client import Client, Reference
from torana.gateway.client.remote import RemoteClient
from torana.gateway.protocol import limits
from torana.gateway.testing.clients import OPTIONS, ClientSuite
from torana.gateway.testing.containers import ContainerSuite

pytestmark = pytest.mark.needs("root", "busybox", "crun")


@pytest.fixture
def runtime_name() -> str:
    return "crun"


@pytest.fixture
async def client(inprocess: InProcessClient, tmp_path: Path) -> AsyncIterator[Client]:
    bridge = Bridge(inprocess)
    path = tmp_path / "bridge.sock"
    async with (
        served(bridge, path),
        grpc.aio.insecure_channel(f"unix:{path}", options=list(limits.CHANNEL)) as channel,
    ):
        yield await RemoteClient.open(channel, options=OPTIONS, session_id=SESSION)
        await bridge.close()


@pytest.fixture
async def busybox(client: Client) -> Reference:
    return await busybox_of(client)


class TestClient(ClientSuite):
    pass


class TestContainers(ContainerSuite):
    pass
