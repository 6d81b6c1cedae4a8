"""Both ends through a real tunnel: what passes, what ends, what is left."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.unit.gateway.session.files.trees import Resources, listing, make_tree
from tests.unit.gateway.session.tunnels import engine, tunnelled

from torana.core.errors import (
    ConflictError,
    CorruptError,
    NotFoundError,
    ToranaError,
    UnsupportedError,
    UserError,
)
from torana.gateway.protocol.health_pb2 import HealthCheckRequest, HealthCheckResponse
from torana.gateway.session import health
from torana.gateway.session.client import attach_control, attach_socket, session_metadata
from torana.gateway.session.files.receiver import ReceiveOptions
from torana.gateway.session.files.writer import WriteOptions
from torana.gateway.session.filesync import FileSync, FolderRequest, receive_folder
from torana.gateway.session.local import LocalSession
from torana.gateway.session.manager import SessionManager
from torana.gateway.session.transport import (
    Handler,
    Metadata,
    MethodNotOfferedError,
    NoSessionError,
    Session,
    SessionLostError,
    Stream,
    Streaming,
    Unary,
    call,
)
from torana.gateway.session.tunnel import SocketBytes

OPTIONS = ReceiveOptions(write=WriteOptions(owner=(os.geteuid(), os.getegid())))
ERRORS = [NotFoundError, ConflictError, UnsupportedError, UserError, CorruptError, ToranaError]


class Echo:
    """A service for tests."""

    def __init__(self) -> None:
        self.is_waiting = asyncio.Event()

    def methods(self) -> Mapping[str, Handler]:
        return {
            "/test.Echo/Unary": Unary(self._unary),
            "/test.Echo/Stream": Streaming(self._stream),
            "/test.Echo/Wait": Streaming(self._wait),
        }

    async def _unary(self, request: bytes, metadata: Metadata) -> bytes:
        for kind in ERRORS:
            if request == kind.__name__.encode():
                raise kind("it failed", hint="try")
        if request == b"bug":
            raise ZeroDivisionError("division by zero")
        return request + b" " + " ".join(f"{k}={v}" for k, v in metadata if k == "x").encode()

    async def _stream(self, stream: Stream, metadata: Metadata) -> None:
        while (message := await stream.receive()) is not None:
            if message == b"fail":
                raise NotFoundError("no more")
            await asyncio.gather(*(stream.send(message) for _ in range(3)))

    async def _wait(self, stream: Stream, metadata: Metadata) -> None:
        self.is_waiting.set()
        await stream.receive()


async def both_forms(tmp_path: Path, use: Any) -> None:
    """Run `use(session)` in process and through a tunnel."""
    await use(LocalSession([Echo()]))
    async with tunnelled(tmp_path, [Echo()]) as session:
        await use(session)


async def test_calls_in_both_forms(tmp_path: Path) -> None:
    async def use(session: Session) -> None:
        assert (
            await session.unary("/test.Echo/Unary", b"a", [("x", "1"), ("x", "2")]) == b"a x=1 x=2"
        )
        async with session.stream("/test.Echo/Stream") as stream:
            for message in (b"one", b"", b"three" * 100_000):
                await stream.send(message)
                assert [await stream.receive() for _ in range(3)] == [message] * 3
            await stream.end()
            await stream.end()
            assert await stream.receive() is None
            with pytest.raises(ToranaError):
                await stream.send(b"late")

    await both_forms(tmp_path, use)


async def test_errors_in_both_forms(tmp_path: Path) -> None:
    async def use(session: Session) -> None:
        for kind in ERRORS:
            with pytest.raises(kind, match="it failed") as caught:
                await session.unary("/test.Echo/Unary", kind.__name__.encode())
            assert type(caught.value) is kind
            assert caught.value.hint == "try"
        async with session.stream("/test.Echo/Stream") as stream:
            await stream.send(b"one")
            await stream.send(b"fail")
            assert [await stream.receive() for _ in range(3)] == [b"one"] * 3
            with pytest.raises(NotFoundError, match="no more"):
                await stream.receive()
            with pytest.raises(ToranaError):
                await stream.send(b"late")
        with pytest.raises(UnsupportedError):
            await session.unary("/test.Echo/Unknown", b"")
        with pytest.raises(UnsupportedError):
            async with session.stream("/test.Echo/Unknown") as stream:
                await stream.receive()

    await both_forms(tmp_path, use)


async def test_bugs_of_services_stay_theirs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with tunnelled(tmp_path, [Echo()]) as session:
        with pytest.raises(ToranaError, match="division by zero"):
            await session.unary("/test.Echo/Unary", b"bug")
        assert await session.unary("/test.Echo/Unary", b"fine") == b"fine "
    assert "ZeroDivisionError" in caplog.text


async def test_a_folder_arrives_through_a_tunnel(tmp_path: Path) -> None:
    make_tree(tmp_path / "source")
    (tmp_path / "target").mkdir()
    async with tunnelled(tmp_path, [FileSync({"context": tmp_path / "source"})], "key") as session:
        assert session.shared_key == "key"
        assert session.supports("/moby.filesync.v1.filesync/DIFFCOPY")
        assert not session.supports("/moby.filesync.v1.FileSend/DiffCopy")
        await receive_folder(session, FolderRequest(name="context"), tmp_path / "target", OPTIONS)
    assert listing(tmp_path / "target") == listing(tmp_path / "source")


async def test_nothing_is_left_of_a_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A folder that others do not use, with a name that is short enough for sockets.
    own = tempfile.TemporaryDirectory(prefix="own-")
    monkeypatch.setattr(tempfile, "tempdir", own.name)
    async with tunnelled(tmp_path, [Echo()]) as session:  # grpcio keeps some things for ever
        await session.unary("/test.Echo/Unary", b"")
    gc.collect()
    before = Resources.now()
    for _ in range(3):
        async with tunnelled(tmp_path, [Echo()]) as session:
            async with session.stream("/test.Echo/Wait"):
                await session.unary("/test.Echo/Unary", b"")
        assert session.is_closed
    gc.collect()
    await asyncio.sleep(0)
    names = [entry for entry in before.leaked() if "eventfd" not in str(entry)]
    assert names == []
    assert os.listdir(own.name) == []
    own.cleanup()


async def test_a_client_that_leaves_fails_what_waits_for_it(tmp_path: Path) -> None:
    echo = Echo()
    async with engine(tmp_path) as (manager, channel):
        async with attach_control(channel, [echo], id="one"):
            session = await manager.get("one")

            async def wait() -> None:
                async with session.stream("/test.Echo/Wait") as stream:
                    await stream.receive()

            waiting = asyncio.ensure_future(wait())
            await echo.is_waiting.wait()
        await session.closed()
        with pytest.raises(SessionLostError, match="client session one was lost"):
            await waiting
        with pytest.raises(SessionLostError):
            await session.unary("/test.Echo/Unary", b"")
        assert manager.find("one") is None


async def test_work_for_a_client_ends_with_it() -> None:
    manager, session = SessionManager(), LocalSession([], id="one")
    with manager.registered(session):
        is_working = asyncio.Event()

        async def work() -> None:
            async with manager.needed("one"):
                is_working.set()
                await asyncio.Event().wait()

        working = asyncio.ensure_future(work())
        await is_working.wait()
        session.close()
        with pytest.raises(SessionLostError, match="client session one was lost"):
            await working
    before = Resources.now()
    for id in ("", "never"):
        async with manager.needed(id):
            await asyncio.sleep(0)
        with pytest.raises(UserError, match="its own"):
            async with manager.needed(id):
                raise UserError("its own")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), manager.needed(id):
                await asyncio.Event().wait()
    assert before.leaked() == []


async def test_a_session_over_a_socket_that_was_upgraded(tmp_path: Path) -> None:
    make_tree(tmp_path / "source")
    (tmp_path / "target").mkdir()
    manager = SessionManager()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        services = [FileSync({"context": tmp_path / "source"})]
        metadata = session_metadata("one", "key", services)
        serving = asyncio.ensure_future(manager.serve_bytes(SocketBytes(theirs), metadata))
        async with attach_socket(ours, services, id="one") as attachment:
            session = await manager.get("one")
            assert session.shared_key == "key"
            request = FolderRequest(name="context")
            await receive_folder(session, request, tmp_path / "target", OPTIONS)
            assert not attachment.lost.is_set()
        await serving
    assert listing(tmp_path / "target") == listing(tmp_path / "source")


async def test_a_connection_that_breaks_ends_the_session(tmp_path: Path) -> None:
    async with engine(tmp_path) as (manager, channel):
        with pytest.raises(ConnectionResetError):
            async with attach_control(channel, [Echo()], id="one") as attachment:
                session = await manager.get("one")
                await channel.close()
                await session.closed()
                await attachment.lost.wait()
                raise ConnectionResetError


async def test_an_engine_that_stops_ends_the_session(tmp_path: Path) -> None:
    async with engine(tmp_path) as (manager, channel):
        async with attach_control(channel, [Echo()], id="one") as attachment:
            await manager.get("one")
            manager.close()
            await attachment.lost.wait()


async def test_waiting_for_sessions(tmp_path: Path) -> None:
    async with engine(tmp_path) as (manager, channel):
        waiting = asyncio.ensure_future(manager.get("prefix:one"))
        await asyncio.sleep(0)
        async with attach_control(channel, [], id="one"):
            assert (await waiting).id == "one"
            async with attach_control(channel, [], id="one") as second:
                await second.lost.wait()
                assert isinstance(second.failure, ConflictError)
    with pytest.raises(NoSessionError, match="no active session for two: context deadline"):
        await SessionManager(wait_s=0.01).get("two")


async def test_any_session_that_succeeds(tmp_path: Path) -> None:
    manager = SessionManager()
    first, second = LocalSession([], id="1"), LocalSession([Echo()], id="2")
    with manager.registered(first), manager.registered(second):

        async def use(session: Session) -> bytes:
            return await session.unary("/test.Echo/Unary", b"x")

        assert await manager.any(["1", "2"], use) == b"x "
        with pytest.raises(MethodNotOfferedError):
            await manager.any(["1"], use)
    with pytest.raises(NoSessionError, match="no active sessions"):
        await manager.any([], use)


async def test_health_through_a_tunnel(tmp_path: Path) -> None:
    async with tunnelled(tmp_path, []) as session:
        answer = await call(session, health.CHECK, HealthCheckRequest(), HealthCheckResponse)
        assert answer.status == HealthCheckResponse.SERVING
        with pytest.raises(NotFoundError):
            request = HealthCheckRequest(service="x")
            await call(session, health.CHECK, request, HealthCheckResponse)
        checks = health.HealthChecks(interval_s=0.01)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await health.watch(session, checks)


async def test_a_client_without_health_is_given_up() -> None:
    checks = health.HealthChecks(interval_s=0.01)
    assert "not supported" in await health.watch(LocalSession([]), checks)


async def test_a_client_that_hangs_is_given_up() -> None:
    class Hanging:
        def methods(self) -> Mapping[str, Handler]:
            return {health.CHECK: Unary(self._hang)}

        async def _hang(self, request: bytes, metadata: Metadata) -> bytes:
            await asyncio.Event().wait()
            return b""

    checks = health.HealthChecks(interval_s=0.01, timeout_s=0.01)
    assert "no answer in time" in await health.watch(LocalSession([Hanging()]), checks)


def test_custom_timeouts() -> None:
    key = health.CUSTOM_TIMEOUT
    custom = health.HealthChecks(interval_s=1.5, timeout_s=1.5, failures=1)
    assert health.HealthChecks.asked_for([(key, "1500")]) == custom
    for text in ("999", "x", "", "-5000"):
        assert health.HealthChecks.asked_for([(key, text)]) == health.HealthChecks()


def test_metadata_lists_every_method() -> None:
    metadata = session_metadata("id", "key", [FileSync({})])
    assert metadata[:2] == [
        ("x-docker-expose-session-uuid", "id"),
        ("x-docker-expose-session-sharedkey", "key"),
    ]
    methods = {text for key, text in metadata if key == "x-docker-expose-session-grpc-method"}
    assert methods >= {
        "/grpc.health.v1.Health/Check",
        "/moby.filesync.v1.FileSync/DiffCopy",
        "/moby.filesync.v1.FileSync/TarStream",
    }
