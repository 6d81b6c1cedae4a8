"""The suites on the client in this process."""

from __future__ import annotations

import pytest
from tests.integration.gateway.conftest import busybox_of

from torana.core.ops.exec.errors import InvalidExecOpError
from torana.gateway.bridge.inprocess import InProcessClient
from torana.gateway.client.client import Client, Reference
from torana.gateway.client.containers import ContainerSpec
from torana.gateway.testing.clients import ClientSuite
from torana.gateway.testing.containers import ContainerSuite

pytestmark = pytest.mark.needs("root", "busybox")


@pytest.fixture
def client(inprocess: InProcessClient) -> Client:
    return inprocess


@pytest.fixture
async def busybox(client: Client) -> Reference:
    return await busybox_of(client)


class TestClient(ClientSuite):
    @pytest.fixture
    def runtime_name(self) -> str:
        return "crun"


class TestContainers(ContainerSuite):
    pass


async def test_container_without_a_root(client: Client) -> None:
    """Not in the suite: stock BuildKit crashes."""
    with pytest.raises(InvalidExecOpError):
        await client.new_container(ContainerSpec(mounts=()))
