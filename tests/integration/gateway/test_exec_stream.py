"""The rules of `ExecProcess`, message by message, as a client of stock BuildKit relies on them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from tests.integration.gateway.conftest import busybox_of

from torana.gateway.bridge.bridge import Bridge
from torana.gateway.bridge.inprocess import InProcessClient
from torana.gateway.bridge.service import served
from torana.gateway.client import messages as m
from torana.gateway.client.container_messages import init_message
from torana.gateway.protocol import gateway_pb2 as pb
from torana.gateway.protocol import limits, ops_pb2
from torana.gateway.protocol.gateway_pb2_grpc import LLBBridgeStub
from torana.gateway.testing.containers import shell

pytestmark = pytest.mark.needs("root", "busybox", "crun")


@pytest.fixture
def runtime_name() -> str:
    return "crun"


@pytest.fixture
async def stub(inprocess: InProcessClient, tmp_path: Path) -> AsyncIterator[Any]:
    """A stub with the container `box`."""
    bridge = Bridge(inprocess)
    path = tmp_path / "bridge.sock"
    reference = await busybox_of(inprocess)
    async with (
        served(bridge, path),
        grpc.aio.insecure_channel(f"unix:{path}", options=list(limits.CHANNEL)) as channel,
    ):
        made: Any = LLBBridgeStub(channel)
        definition = await reference.definition()
        assert definition is not None
        solve = pb.SolveRequest(
            Definition=m.definition_message(definition),
            allowResultReturn=True,
            allowResultArrayRef=True,
        )
        id = (await made.Solve(solve)).result.ref.id
        mounts = [ops_pb2.Mount(dest="/", resultID=id, input=-1, output=-1)]
        await made.NewContainer(pb.NewContainerRequest(ContainerID="box", Mounts=mounts))
        yield made
        await bridge.close()


class Talk:
    """One stream."""

    def __init__(self, stub: Any) -> None:
        self.call = stub.ExecProcess()

    async def init(self, id: str, script: str, *fds: int, container: str = "box") -> None:
        spec = shell(script, descriptors=frozenset(fds))
        await self.send(id, Init=init_message(container, spec))

    async def send(self, id: str, **content: Any) -> None:
        await self.call.write(pb.ExecMessage(ProcessID=id, **content))

    async def next(self) -> tuple[str, str, Any]:
        message = await self.call.read()
        assert message is not grpc.aio.EOF, await self.call.code()
        kind = message.WhichOneof("Input")
        return message.ProcessID, kind, getattr(message, kind)

    async def failure(self) -> grpc.StatusCode:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while await self.call.read() is not grpc.aio.EOF:
                pass
        return caught.value.code()


async def test_order_of_messages(stub: Any) -> None:
    talk = Talk(stub)
    await talk.init("p", "cat; echo err >&2; exit 3", 0, 1, 2)
    assert (await talk.next())[:2] == ("p", "Started")
    await talk.send("p", File=pb.FdMessage(Fd=0, Data=b"in"))
    _, _, file = await talk.next()
    assert (file.Fd, file.Data) == (1, b"in")
    await talk.send("p", File=pb.FdMessage(Fd=0, EOF=True))
    rest = [await talk.next() for _ in range(5)]
    kinds = [kind for _, kind, _ in rest]
    assert kinds.count("Exit") == 1
    assert kinds[-1] == "Done"
    (exit_message,) = (content for _, kind, content in rest if kind == "Exit")
    assert exit_message.Code == 3
    assert exit_message.Error.message == "exit code: 3"
    ends = [content.Fd for _, kind, content in rest if kind == "File" and content.EOF]
    assert ends == [1, 2]
    assert b"".join(c.Data for _, k, c in rest if k == "File") == b"err\n"
    await talk.call.done_writing()
    assert await talk.call.read() is grpc.aio.EOF
    assert await talk.call.code() == grpc.StatusCode.OK


async def test_done_waits_for_the_end_of_input(stub: Any) -> None:
    talk = Talk(stub)
    await talk.init("p", "exit 0", 0, 1)
    assert [(await talk.next())[1] for _ in range(3)] == ["Started", "Exit", "File"]
    await talk.send("p", File=pb.FdMessage(Fd=0, EOF=True))
    assert (await talk.next())[1] == "Done"
    talk.call.cancel()


async def test_success_has_no_error(stub: Any) -> None:
    talk = Talk(stub)
    await talk.init("p", "true")
    _, _, exit_message = [await talk.next() for _ in range(2)][1]
    assert not exit_message.HasField("Error")
    assert (await talk.next())[1] == "Done"
    talk.call.cancel()


async def test_several_processes_on_one_stream(stub: Any) -> None:
    talk = Talk(stub)
    await talk.init("a", "cat", 0, 1)
    assert (await talk.next())[:2] == ("a", "Started")
    await talk.init("b", "echo b", 1)
    found = [await talk.next() for _ in range(5)]
    assert {id for id, _, _ in found} == {"b"}
    await talk.send("a", File=pb.FdMessage(Fd=0, Data=b"still", EOF=True))
    found = [await talk.next() for _ in range(4)]
    assert {id for id, _, _ in found} == {"a"}
    talk.call.cancel()


@pytest.mark.parametrize(
    ("id", "content", "code"),
    [
        ("", {"Signal": pb.SignalMessage(Name="INT")}, grpc.StatusCode.INVALID_ARGUMENT),
        ("other", {"Signal": pb.SignalMessage(Name="INT")}, grpc.StatusCode.NOT_FOUND),
        ("p", {"Signal": pb.SignalMessage(Name="NOPE")}, grpc.StatusCode.INVALID_ARGUMENT),
        ("p", {"File": pb.FdMessage(Fd=0, Data=b"x")}, grpc.StatusCode.OUT_OF_RANGE),
        ("p", {"File": pb.FdMessage(Fd=7, Data=b"x")}, grpc.StatusCode.OUT_OF_RANGE),
        ("p", {"Init": pb.InitMessage(ContainerID="box")}, grpc.StatusCode.ALREADY_EXISTS),
        ("q", {"Init": pb.InitMessage(ContainerID="none")}, grpc.StatusCode.NOT_FOUND),
        ("p", {"Started": pb.StartedMessage()}, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_what_ends_the_stream(
    stub: Any, id: str, content: dict[str, Any], code: grpc.StatusCode
) -> None:
    talk = Talk(stub)
    await talk.init("p", "sleep 100", 1)
    assert (await talk.next())[1] == "Started"
    await talk.send(id, **content)
    assert await talk.failure() == code


async def test_half_close_ends_the_processes(stub: Any) -> None:
    talk = Talk(stub)
    await talk.init("p", "sleep 100", 0, 1)
    assert (await talk.next())[1] == "Started"
    await talk.call.done_writing()
    _, kind, exit_message = await talk.next()
    assert (kind, exit_message.Code) == ("Exit", 137)
    assert (await talk.next())[1] == "File"
    assert (await talk.next())[1] == "Done"
    assert await talk.call.read() is grpc.aio.EOF


async def test_container_ids_are_taken_once(stub: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.NewContainer(pb.NewContainerRequest(ContainerID="box"))
    assert caught.value.code() == grpc.StatusCode.ALREADY_EXISTS
