"""Connections through programs and through a Docker daemon's upgrade, all on private sockets."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from torana.gateway.engines.remote.address import (
    CommandAddress,
    DockerAddress,
    SocketAddress,
    TCPAddress,
)
from torana.gateway.engines.remote.connection import connect
from torana.gateway.engines.remote.relay import ConnectionFailedError, Relay

ECHO = (
    "import os\nwhile data := os.read(0, 65536):\n    os.write(1, data.upper())\nos.write(1, b'!')"
)


async def talk(relay: Relay, said: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(relay.path)
    writer.write(said)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return answer


@asynccontextmanager
async def docker(path: Path, status: bytes) -> AsyncIterator[list[bytes]]:
    """Something that answers like a Docker daemon and then echoes."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 " + status + b"\r\nConnection: Upgrade\r\n\r\nhello ")
        writer.write(await reader.read())
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(serve, path):
        yield heads


async def test_a_program(tmp_path: Path) -> None:
    async with Relay.open(CommandAddress((sys.executable, "-c", ECHO))) as relay:
        big = b"x" * 500_000
        assert await talk(relay, b"abc") == b"ABC!"
        first, second = await asyncio.gather(talk(relay, big), talk(relay, b"b"))
        assert (first, second) == (big.upper() + b"!", b"B!")
        assert relay.failure is None
    assert not Path(relay.path).exists()


async def test_a_program_that_fails() -> None:
    script = "import sys; sys.stdin.buffer.read(); sys.exit('no such container: bk')"
    async with Relay.open(CommandAddress((sys.executable, "-c", script))) as relay:
        assert await talk(relay, b"") == b""
        while relay.failure is None:
            await asyncio.sleep(0.01)
        assert "ended with 1: no such container: bk" in relay.failure.message
    async with Relay.open(CommandAddress(("no-such-program-here",))) as relay:
        assert await talk(relay, b"") == b""
        assert relay.failure is not None
        assert relay.failure.message == "program not found: `no-such-program-here`"


async def test_errors_say_why_and_not_by_what_socket(tmp_path: Path) -> None:
    script = "import sys; sys.exit('no such container: bk')"
    with pytest.raises(ConnectionFailedError) as failure:
        async with connect(CommandAddress((sys.executable, "-c", script)), "shown://bk"):
            raise AssertionError("nobody answers")
    assert failure.value.message.startswith("no answer from shown://bk: ")
    assert "ended with 1: no such container: bk" in failure.value.message
    for address, reason in (
        (TCPAddress("127.0.0.1", 1), "connection refused"),
        (SocketAddress(str(tmp_path / "none")), "No such file or directory"),
    ):
        with pytest.raises(ConnectionFailedError) as failure:
            async with connect(address, "shown://x"):
                raise AssertionError("nobody answers")
        assert failure.value.message == f"no answer from shown://x: {reason}"
        assert failure.value.hint


async def test_programs_end_with_the_relay() -> None:
    script = "import time; print('up', flush=True); time.sleep(600)"
    async with Relay.open(CommandAddress((sys.executable, "-c", script))) as relay:
        reader, writer = await asyncio.open_unix_connection(relay.path)
        assert await reader.readline() == b"up\n"
    assert await asyncio.wait_for(reader.read(), 20) == b""
    writer.close()


async def test_a_docker_daemon(tmp_path: Path) -> None:
    path = tmp_path / "d.sock"
    async with (
        docker(path, b"101 UPGRADED") as heads,
        Relay.open(DockerAddress(SocketAddress(str(path)))) as relay,
    ):
        assert await talk(relay, b"there") == b"hello there"
        assert heads[0].startswith(b"POST /grpc HTTP/1.1\r\n")
        assert b"\r\nUpgrade: h2c\r\n" in heads[0]


async def test_a_docker_daemon_without_buildkit(tmp_path: Path) -> None:
    path = tmp_path / "d.sock"
    async with (
        docker(path, b"404 Not Found"),
        Relay.open(DockerAddress(SocketAddress(str(path)))) as relay,
    ):
        assert await talk(relay, b"there") == b""
        assert relay.failure is not None
        assert "does not offer BuildKit: HTTP/1.1 404 Not Found" in relay.failure.message
    async with Relay.open(DockerAddress(SocketAddress(str(tmp_path / "none")))) as relay:
        assert await talk(relay, b"") == b""
        assert relay.failure is not None
        assert relay.failure.hint == "is dockerd running?"
