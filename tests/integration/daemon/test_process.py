"""`toranad` as a process: its addresses, its lock, how it starts and ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from torana.core.llb import mkfile, scratch
from torana.gateway.engines.remote.address import CommandAddress
from torana.gateway.engines.remote.connection import connect
from torana.gateway.protocol import control_pb2 as pb
from torana.gateway.protocol import gateway_pb2 as gw
from torana.gateway.protocol import ops_pb2
from torana.gateway.protocol.control_pb2_grpc import ControlStub
from torana.gateway.protocol.gateway_pb2_grpc import LLBBridgeStub
from torana.gateway.testing.daemons import RunningDaemon

Start = Callable[..., RunningDaemon]
TORANA = [sys.executable, "-m", "torana"]


async def version(channel: grpc.aio.Channel) -> str:
    control: Any = ControlStub(channel)
    text: str = (await control.Info(pb.InfoRequest(), timeout=20)).buildkitVersion.version
    return text


def small() -> ops_pb2.Definition:
    return ops_pb2.Definition.FromString(scratch().file(mkfile("/a", b"a")).marshal().encode())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_one_daemon_per_root_and_per_socket(start: Start, folder: Path) -> None:
    first = start()
    path = Path(first.address.removeprefix("unix://"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    with pytest.raises(RuntimeError, match=r"(?s)another instance running.*process \d+ has it"):
        start()
    other = folder / "other"
    with pytest.raises(RuntimeError, match="another process listens on"):
        start("--root", str(other), "--addr", first.address)
    async with grpc.aio.insecure_channel(first.target) as channel:
        assert await version(channel)  # still its own
    assert first.stop() == 0
    assert not path.exists()


async def test_a_killed_daemon_leaves_nothing_in_the_way(start: Start) -> None:
    first = start()
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    second = start("--addr", first.address)  # its socket is still there
    async with grpc.aio.insecure_channel(first.target) as channel:
        assert await version(channel)
    assert second.stop() == 0


async def test_running_builds_end_before_the_daemon_does(start: Start) -> None:
    daemon = start()
    async with grpc.aio.insecure_channel(daemon.target) as channel:
        control: Any = ControlStub(channel)
        bridge: Any = LLBBridgeStub(channel)
        key = (("buildkit-controlapi-buildid", "last"),)
        solve = control.Solve(pb.SolveRequest(Ref="last"))
        await bridge.Ping(gw.PingRequest(), metadata=key)
        daemon.process.send_signal(signal.SIGTERM)
        while b"stopping server" not in daemon.log.read_bytes():
            await asyncio.sleep(0.02)
        with pytest.raises(grpc.aio.AioRpcError, match="daemon is stopping"):
            await control.Solve(pb.SolveRequest(Ref="too-late"))
        asked = gw.SolveRequest(
            Definition=small(), allowResultReturn=True, allowResultArrayRef=True
        )
        result = (await bridge.Solve(asked, metadata=key)).result
        await bridge.Return(gw.ReturnRequest(result=result), metadata=key)
        await solve
    assert daemon.process.wait(30) == 0


async def test_a_second_signal_cancels_builds(start: Start) -> None:
    daemon = start()
    async with grpc.aio.insecure_channel(daemon.target) as channel:
        control: Any = ControlStub(channel)
        bridge: Any = LLBBridgeStub(channel)
        solve = control.Solve(pb.SolveRequest(Ref="long"))
        await bridge.Ping(gw.PingRequest(), metadata=(("buildkit-controlapi-buildid", "long"),))
        daemon.process.send_signal(signal.SIGINT)
        while b"stopping server" not in daemon.log.read_bytes():
            await asyncio.sleep(0.02)
        daemon.process.send_signal(signal.SIGINT)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await solve
        assert raised.value.code() == grpc.StatusCode.CANCELLED
    assert daemon.process.wait(30) == 0


def certificates(folder: Path) -> None:
    """Make a CA, and certificates of it for a server and a client."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2")
    openssl(*new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca")
    for name in ("server", "client"):
        subject = ("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1")
        signer = ("-CA", "ca.pem", "-CAkey", "ca.key")
        openssl(*new, "-keyout", f"{name}.key", "-out", f"{name}.pem", *subject, *signer)


@pytest.mark.needs("openssl")
async def test_tcp_wants_certificates_of_clients(start: Start, folder: Path) -> None:
    certificates(folder)
    port = free_port()
    with pytest.raises(RuntimeError, match="would let anybody who reaches it run builds"):
        start("--addr", f"tcp://127.0.0.1:{port}")
    files = [f"--tlscert={folder}/server.pem", f"--tlskey={folder}/server.key"]
    daemon = start("--addr", f"tcp://127.0.0.1:{port}", *files, f"--tlscacert={folder}/ca.pem")

    def read(name: str) -> bytes:
        return (folder / name).read_bytes()

    known = grpc.ssl_channel_credentials(read("ca.pem"), read("client.key"), read("client.pem"))
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", known) as channel:
        assert await version(channel)
    stranger = grpc.ssl_channel_credentials(read("ca.pem"))
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", stranger) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await version(channel)
        assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
    assert daemon.stop() == 0


async def test_sockets_from_systemd_are_served(folder: Path) -> None:
    path = folder / "activated.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))
        listener.listen()
        script = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True); "
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='api'); "
            "os.execv(sys.executable, [sys.executable, '-c', "
            "'from torana.cli.daemon import main; main()', *sys.argv[2:]])"
        )
        arguments = ["--root", str(folder / "root"), "--addr", "fd://api"]
        number = listener.fileno()
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(number), *arguments],
            pass_fds=[number],
            stderr=subprocess.DEVNULL,
        )
    try:
        async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
            control: Any = ControlStub(channel)
            # The socket listens already, before there is a daemon.
            answer = await control.Info(pb.InfoRequest(), timeout=30, wait_for_ready=True)
            assert answer.buildkitVersion.version
    finally:
        process.terminate()
        assert process.wait(30) == 0
    assert path.exists()  # it is systemd's


async def test_metrics_are_served(start: Start) -> None:
    port = free_port()
    daemon = start("--debugaddr", f"127.0.0.1:{port}")
    async with grpc.aio.insecure_channel(daemon.target) as channel:
        control: Any = ControlStub(channel)
        await control.Solve(pb.SolveRequest(Ref="counted", Definition=small()))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    assert 'buildkit_builds_total{error_code="",frontend="",status="completed"} 1.0' in text


async def test_garbage_is_collected_soon_after_the_start(start: Start, folder: Path) -> None:
    first = start()
    async with grpc.aio.insecure_channel(first.target) as channel:
        control: Any = ControlStub(channel)
        await control.Solve(pb.SolveRequest(Ref="old", Definition=small()))
        assert (await control.DiskUsage(pb.DiskUsageRequest())).record
    assert first.stop() == 0
    (folder / "gc.toml").write_text("[[worker.oci.gcpolicy]]\nall = true\n")
    second = start("--config", str(folder / "gc.toml"))
    async with grpc.aio.insecure_channel(second.target) as channel:
        control = ControlStub(channel)
        async with asyncio.timeout(30):
            while (await control.DiskUsage(pb.DiskUsageRequest())).record:
                await asyncio.sleep(0.1)
        (worker,) = (await control.ListWorkers(pb.ListWorkersRequest())).record
        assert [policy.all for policy in worker.GCPolicy] == [True]


async def test_a_daemon_is_reached_through_a_program(daemon: RunningDaemon) -> None:
    command = CommandAddress((*TORANA, "--addr", daemon.address, "dial-stdio"))
    async with connect(command, "the program") as connection:
        assert connection.workers[0].record


def test_commands_show_what_a_daemon_has(daemon: RunningDaemon) -> None:
    def show(*arguments: str) -> str:
        command = [*TORANA, "--addr", daemon.address, "debug", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    worker_id = (daemon.root / "workerid").read_text()
    assert show("info").startswith("BuildKit:\ttorana v")
    assert f"ID:\t\t{worker_id}" in show("workers")
    assert show("histories").startswith("REF ")
