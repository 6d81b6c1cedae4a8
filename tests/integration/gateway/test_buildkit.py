"""The suites against stock BuildKit: `buildkitd` on PATH, or the one that BUILDKIT_HOST names."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from torana.core.errors import ToranaError
from torana.core.llb import scratch
from torana.gateway.client import messages as m
from torana.gateway.client.client import Client, Reference, Result, SolveRequest
from torana.gateway.client.remote import RemoteClient
from torana.gateway.protocol import control_pb2, limits
from torana.gateway.protocol.control_pb2_grpc import ControlStub
from torana.gateway.testing.clients import OPTIONS, ClientSuite, given_input
from torana.gateway.testing.containers import ContainerSuite

pytestmark = [
    pytest.mark.needs("root", "busybox"),
    pytest.mark.skipif(
        shutil.which("buildkitd") is None and "BUILDKIT_HOST" not in os.environ,
        reason="needs buildkitd",
    ),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where BuildKit listens: one of our own, unless one is named."""
    if "BUILDKIT_HOST" in os.environ:
        yield os.environ["BUILDKIT_HOST"].replace("unix://", "unix:")
        return
    folder = tmp_path_factory.mktemp("bk")
    socket = folder / "s"
    command = ["buildkitd", "--root", str(folder / "root"), "--addr", f"unix://{socket}"]
    command += ["--containerd-worker=false", "--oci-worker-net=host"]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        for _ in range(200):
            if b"running server" in (folder / "log").read_bytes():
                break
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        yield f"unix:{socket}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
async def client(address: str) -> AsyncIterator[Client]:
    """A frontend on the client's side, as buildctl is one."""
    async with grpc.aio.insecure_channel(address, options=list(limits.CHANNEL)) as channel:
        control: Any = ControlStub(channel)
        ref = secrets.token_hex(13)[:25]
        request = control_pb2.SolveRequest(Ref=ref, Cache=control_pb2.CacheOptions())
        request.FrontendInputs["given"].CopyFrom(m.definition_message(given_input()))
        solving = asyncio.ensure_future(control.Solve(request))
        made = await RemoteClient.open(
            channel,
            options=OPTIONS,
            session_id="none",
            metadata=(("buildkit-controlapi-buildid", ref),),
        )
        yield made
        await made.finish(Result())
        await solving


@pytest.fixture
async def busybox(client: Client, busybox_tree: Path) -> Reference:
    """The tree without a session to send it by: made by file ops."""
    binary = (busybox_tree / "bin/busybox").read_bytes()
    actions = scratch().file(_folders()).file(_first(binary))
    for link in sorted((busybox_tree / "bin").iterdir()):
        if link.is_symlink():
            actions = actions.file(_link(link.name))
    definition = actions.marshal()
    result = await client.solve(SolveRequest(definition=definition))
    assert result.ref is not None
    return result.ref


def _folders() -> Any:
    from torana.core.llb import mkdir

    return mkdir("/bin").mkdir("/tmp", mode=0o1777).mkdir("/etc")


def _first(binary: bytes) -> Any:
    from torana.core.llb import mkfile

    return mkfile("/bin/busybox", binary, mode=0o755, timestamp_ns=0)


def _link(name: str) -> Any:
    from torana.core.llb import symlink

    return symlink("busybox", f"/bin/{name}", timestamp_ns=0)


class TestClient(ClientSuite):
    pass


class TestContainers(ContainerSuite):
    survives_failures = False


async def test_returned_error_ends_the_build(address: str) -> None:
    async with grpc.aio.insecure_channel(address, options=list(limits.CHANNEL)) as channel:
        control: Any = ControlStub(channel)
        ref = secrets.token_hex(13)[:25]
        request = control_pb2.SolveRequest(Ref=ref, Cache=control_pb2.CacheOptions())
        solving = asyncio.ensure_future(control.Solve(request))
        metadata = (("buildkit-controlapi-buildid", ref),)
        made = await RemoteClient.open(channel, options={}, session_id="", metadata=metadata)
        await made.fail(ToranaError("it was not to be"))
        with pytest.raises(grpc.aio.AioRpcError, match="it was not to be"):
            await solving
