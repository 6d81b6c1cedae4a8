"""The small services, both ends, in process and through a tunnel."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest
from tests.unit.gateway.session.files.trees import Resources, listing, make_tree
from tests.unit.gateway.session.tunnels import engine

from torana.core.errors import (
    ConflictError,
    CorruptError,
    NotFoundError,
    ToranaError,
    UnsupportedError,
    UserError,
)
from torana.core.oci.digest import Digest
from torana.gateway.protocol import content_pb2 as pb
from torana.gateway.session import filesend
from torana.gateway.session.auth import Auth, Credentials, SessionAuth, Token, TokenRequest
from torana.gateway.session.client import attach_control
from torana.gateway.session.contents import Contents, SessionContents
from torana.gateway.session.files.walk import FolderTree
from torana.gateway.session.filesend import FileSend, FileTarget, FolderTarget, send_file
from torana.gateway.session.layout import LayoutStore
from torana.gateway.session.local import LocalSession
from torana.gateway.session.manager import SessionManager
from torana.gateway.session.secrets import MAX_BYTES, Secrets, SessionSecrets
from torana.gateway.session.ssh import SessionSSH, SSHAgents
from torana.gateway.session.transport import (
    MethodNotOfferedError,
    NoSessionError,
    Service,
    Session,
    SessionLostError,
)
from torana.gateway.session.upload import Uploads, pull

Use = Callable[[SessionManager, Session], Awaitable[None]]


async def both_forms(tmp_path: Path, services: Sequence[Service], use: Use) -> None:
    """Run `use` with a session of `services` in process, then with one through a tunnel."""
    manager = SessionManager()
    session = LocalSession(services, id="one")
    with manager.registered(session):
        await use(manager, session)
    async with engine(tmp_path) as (manager, channel):
        async with attach_control(channel, services, id="one"):
            await use(manager, await manager.get("one"))


# Secrets


class Known:
    """Secrets of a test."""

    async def get(self, id: str) -> bytes | None:
        return {"a": b"value", "empty": b"", "huge": bytes(MAX_BYTES + 1)}.get(id)


async def test_secrets(tmp_path: Path) -> None:
    async def use(manager: SessionManager, session: Session) -> None:
        provider = SessionSecrets(manager, ["one"])
        assert await provider.get("a") == b"value"
        assert await provider.get("empty") == b""
        assert await provider.get("unknown") is None
        with pytest.raises(UserError, match="longer than 512000 bytes"):
            await provider.get("huge")

    await both_forms(tmp_path, [Secrets(Known())], use)


async def test_secrets_of_several_sessions() -> None:
    manager = SessionManager()
    with (
        manager.registered(LocalSession([], id="none")),
        manager.registered(LocalSession([Secrets(Known())], id="some")),
    ):
        assert await SessionSecrets(manager, ["none", "some"]).get("a") == b"value"
        assert await SessionSecrets(manager, ["none"]).get("a") is None
        assert await SessionSecrets(manager, []).get("a") is None


# SSH


@contextmanager
def agent(path: Path) -> Iterator[list[bytes]]:
    """An agent that answers each request with type 6 and the request's own type."""
    import threading

    seen: list[bytes] = []

    def answer(connected: socket.socket) -> None:
        with connected:
            while head := connected.recv(4):
                body = connected.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL)
                seen.append(body)
                connected.sendall(b"\0\0\0\2\6" + body[:1])

    def serve() -> None:
        while True:
            try:
                connected, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connected,), daemon=True).start()

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.fspath(path))
    listener.listen()
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield seen
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def request(kind: int, body: bytes = b"") -> bytes:
    return (1 + len(body)).to_bytes(4, "big") + bytes([kind]) + body


async def test_ssh_agents(tmp_path: Path) -> None:
    async def use(manager: SessionManager, session: Session) -> None:
        provider = SessionSSH(manager, ["one"])
        path = tmp_path / "step.sock"
        async with provider.forward("default", path) as is_there:
            assert is_there
            reader, writer = await asyncio.open_unix_connection(path)
            sign = request(13, b"x" * 100_000)
            writer.write(request(11) + sign[:3])
            await asyncio.sleep(0)
            writer.write(sign[3:] + request(17, b"add this key"))
            answers = [await reader.readexactly(n) for n in (6, 6, 5)]
            assert answers == [b"\0\0\0\2\6\x0b", b"\0\0\0\2\6\x0d", b"\0\0\0\1\5"]
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
        assert not path.exists()
        async with provider.forward("other", path) as is_there:
            assert not is_there
            assert not path.exists()

    with agent(tmp_path / "agent.sock") as seen:
        await both_forms(tmp_path, [SSHAgents({"default": tmp_path / "agent.sock"})], use)
    assert {body[0] for body in seen} == {11, 13}  # what changes the agent never reached it


async def test_malformed_requests_do_not_reach_the_agent(tmp_path: Path) -> None:
    with agent(tmp_path / "agent.sock") as seen:
        manager = SessionManager()
        services = [SSHAgents({"default": tmp_path / "agent.sock"})]
        with manager.registered(LocalSession(services, id="one")):
            async with SessionSSH(manager, ["one"]).forward("default", tmp_path / "s"):
                reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
                writer.write(b"\xff\xff\xff\xff\x0b")
                assert await reader.read() == b""
                writer.close()
                await writer.wait_closed()
    assert seen == []


# Uploads


async def test_uploads_are_read_once(tmp_path: Path) -> None:
    uploads = Uploads()

    async def use(manager: SessionManager, session: Session) -> None:
        data = os.urandom(3_000_000)
        url = uploads.add("abc", io.BytesIO(data))
        assert url == "http://buildkit-session/abc"
        async with aclosing(pull(session, "/abc")) as found:
            assert b"".join([piece async for piece in found]) == data
        with pytest.raises(NotFoundError, match="no http response from session for abc"):
            async with aclosing(pull(session, "/abc")) as found:
                async for _ in found:
                    pass

    await both_forms(tmp_path, [uploads], use)


# Exports


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    temporary = path.with_suffix(".part")
    try:
        with open(temporary, "wb") as file:
            yield file
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


async def test_files_of_exports(tmp_path: Path) -> None:
    answers: list[Mapping[str, str]] = []

    def open_file(answer: Mapping[str, str]) -> AbstractContextManager[BinaryIO] | None:
        answers.append(answer)
        return None if answer.get("image.name") == "unwanted" else whole(tmp_path / "out")

    async def use(manager: SessionManager, session: Session) -> None:
        data = os.urandom(2_500_000)
        answer = {"containerimage.digest": "sha256:abc", "Image.Name": "a"}
        async with send_file(session, 1, answer) as file:
            await file.write(data)
            await file.write(b"end")
        assert (tmp_path / "out").read_bytes() == data + b"end"
        (tmp_path / "out").unlink()
        assert answers[-1] == {"containerimage.digest": "sha256:abc", "image.name": "a"}
        with pytest.raises(ConflictError, match="target already exists"):
            async with send_file(session, 1, {"image.name": "unwanted"}) as file:
                await asyncio.sleep(0)
        with pytest.raises(ZeroDivisionError):
            async with send_file(session, 1, {}) as file:
                await file.write(b"half")
                raise ZeroDivisionError
        with pytest.raises(NotFoundError, match="exporter 7 not found"):
            async with send_file(session, 7, {}) as file:
                await file.write(b"x")
        for _ in range(100):
            if not (tmp_path / "out.part").exists():
                break
            await asyncio.sleep(0.02)
        assert not (tmp_path / "out").exists()
        assert not (tmp_path / "out.part").exists()

    await both_forms(tmp_path, [FileSend({1: FileTarget(open_file)})], use)


async def test_folders_of_exports(tmp_path: Path) -> None:
    make_tree(tmp_path / "source")

    async def send(session: Session, exporter: int, has_all_platforms: bool = True) -> None:
        with FolderTree(tmp_path / "source") as tree:
            await filesend.send_folder(session, exporter, tree, has_all_platforms=has_all_platforms)

    async def use(manager: SessionManager, session: Session) -> None:
        for name in ("merged", "equal"):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "other").write_text("x")
        await send(session, 0)
        await send(session, 3)
        expected = listing(tmp_path / "source")
        assert listing(tmp_path / "equal") == expected
        merged = listing(tmp_path / "merged")
        del merged["other"]
        assert merged == expected
        with pytest.raises(UnsupportedError, match="mode=delete"):
            await send(session, 3, has_all_platforms=False)

    targets = {0: FolderTarget(tmp_path / "merged"), 3: FolderTarget(tmp_path / "equal", True)}
    await both_forms(tmp_path, [FileSend(targets)], use)


async def test_exports_need_a_client_that_takes_them() -> None:
    with pytest.raises(MethodNotOfferedError, match="FileSend/diffcopy not supported"):
        async with send_file(LocalSession([]), 0, {}):
            pass


# Content


def blob(data: bytes) -> Digest:
    return Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")


async def given(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def test_content_stores(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)

    async def use(manager: SessionManager, session: Session) -> None:
        root = tmp_path / f"layout-{type(session).__name__}"
        stores["local:/x"] = LayoutStore(root, is_writable=True)
        store = SessionContents(session, "local:/x")
        with pytest.raises(NotFoundError):
            await store.size(blob(data))
        await store.write(blob(data), len(data), given(data[:5], data[5:]))
        assert await store.size(blob(data)) == len(data)
        assert (root / "blobs" / "sha256" / blob(data).encoded).read_bytes() == data
        assert (root / "oci-layout").read_text() == '{"imageLayoutVersion":"1.0.0"}'
        async with aclosing(store.read(blob(data))) as found:
            assert b"".join([piece async for piece in found]) == data
        async with aclosing(store.read(blob(data), offset=10, size=20)) as found:
            assert b"".join([piece async for piece in found]) == data[10:30]

        async def unread() -> AsyncIterator[bytes]:
            raise AssertionError("a blob that is there is not read again")
            yield b""

        await store.write(blob(data), len(data), unread())
        with pytest.raises(CorruptError, match="expected sha256:"):
            await store.write(blob(b"a"), 1, given(b"b"))
        with pytest.raises(CorruptError, match="has 1 bytes, expected 2"):
            await store.write(blob(b"ab"), 2, given(b"a"))
        with pytest.raises(UserError, match="longer than"):
            await store.write(blob(b"a"), 1, given(b"abc"))
        assert os.listdir(root / "blobs") == ["sha256"]
        with pytest.raises(NotFoundError, match="unknown store oci:x"):
            await SessionContents(session, "oci:x").size(blob(data))
        with pytest.raises(UserError, match="lacks metadata"):
            await session.unary("/containerd.services.content.v1.Content/Info", b"")
        read_only = SessionContents(session, "oci:read")
        assert await read_only.size(blob(b"x")) == 1
        with pytest.raises(UnsupportedError, match="read-only"):
            await read_only.write(blob(b"y"), 1, given(b"y"))

    (tmp_path / "read" / "blobs" / "sha256").mkdir(parents=True)
    (tmp_path / "read" / "blobs" / "sha256" / blob(b"x").encoded).write_bytes(b"x")
    (tmp_path / "secret").write_bytes(b"x")
    stores = {"oci:read": LayoutStore(tmp_path / "read")}
    await both_forms(tmp_path, [Contents(stores)], use)


@pytest.mark.parametrize("digest", ["", "x", "sha256:../../../secret", "sha256:/etc/passwd", "a:b"])
async def test_digests_of_a_peer_are_checked(tmp_path: Path, digest: str) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    session = LocalSession([Contents({"oci:x": LayoutStore(tmp_path)})])
    info = pb.InfoRequest(digest=digest).SerializeToString()
    metadata = [("buildkit-attachable-store-id", "oci:x")]
    with pytest.raises(UserError):
        await session.unary("/containerd.services.content.v1.Content/Info", info, metadata)
    write = pb.WriteContentRequest(ref="r", expected=digest or "x").SerializeToString()
    with pytest.raises(UserError):
        async with session.stream(
            "/containerd.services.content.v1.Content/Write", metadata
        ) as stream:
            await stream.send(write)
            await stream.receive()


# Auth


class Passwords:
    """Credentials of a test."""

    async def credentials(self, host: str) -> Credentials:
        return Credentials("user", "word") if host == "r.example" else Credentials()


async def fetch(request: TokenRequest, credentials: Credentials) -> Token:
    if request.realm == "bad":
        raise NotFoundError("no such realm")
    return Token(token=f"{request.scopes[0]} {credentials.secret}", expires_in_s=0, issued_at=7)


async def test_credentials_and_tokens(tmp_path: Path) -> None:
    async def use(manager: SessionManager, session: Session) -> None:
        engine_auth = SessionAuth(manager, ["one"])
        assert await engine_auth.credentials("r.example") == Credentials("user", "word")
        assert await engine_auth.credentials("other") == Credentials()
        wanted = TokenRequest(host="r.example", realm="https://r", scopes=("repository:a:pull",))
        token = await engine_auth.fetch_token(wanted)
        assert token == Token(token="repository:a:pull word", expires_in_s=60, issued_at=7)
        with pytest.raises(NotFoundError, match="no such realm"):
            await engine_auth.fetch_token(TokenRequest(host="r.example", realm="bad"))
        key = await engine_auth.token_authority("r.example")
        assert key is not None
        assert await engine_auth.has_authority("r.example", key)
        assert not await engine_auth.has_authority("other", key)
        assert not await engine_auth.has_authority("r.example", bytes(32))

    await both_forms(tmp_path, [Auth(Passwords(), fetch_token=fetch)], use)


async def test_clients_that_keep_tokens_to_themselves(tmp_path: Path) -> None:
    async def use(manager: SessionManager, session: Session) -> None:
        engine_auth = SessionAuth(manager, ["one"])
        assert await engine_auth.token_authority("r.example") is None
        assert not await engine_auth.has_authority("r.example", bytes(32))
        with pytest.raises(UnsupportedError):
            await engine_auth.fetch_token(TokenRequest(host="r.example", realm="x"))

    await both_forms(tmp_path, [Auth(Passwords())], use)
    manager = SessionManager()
    assert await SessionAuth(manager, []).credentials("x") == Credentials()
    with manager.registered(LocalSession([], id="bare")):
        assert await SessionAuth(manager, ["bare"]).credentials("x") == Credentials()


async def test_anonymous_authorities_agree_and_others_do_not() -> None:
    manager = SessionManager()
    one = LocalSession([Auth(Passwords(), fetch_token=fetch)], id="1")
    two = LocalSession([Auth(Passwords(), fetch_token=fetch)], id="2")
    with manager.registered(one), manager.registered(two):
        keys = [
            [await SessionAuth(manager, [id]).token_authority(host) for id in "12"]
            for host in ("anonymous.example", "r.example")
        ]
    assert keys[0][0] == keys[0][1]
    assert keys[1][0] != keys[1][1]


def test_secrets_are_not_shown() -> None:
    assert "word" not in repr(Credentials("user", "word"))
    assert "abc" not in repr(Token(token="abc"))


# All of them


async def test_a_dead_client_fails_every_service(tmp_path: Path) -> None:
    manager = SessionManager(wait_s=0.01)
    session = LocalSession(
        [Secrets(Known()), Auth(Passwords()), FileSend({0: FolderTarget(tmp_path / "out")})],
        id="one",
    )
    with manager.registered(session):
        session.close()
        before = Resources.now()
        for run in (
            SessionSecrets(manager, ["one"]).get("a"),
            SessionAuth(manager, ["one"]).credentials("x"),
        ):
            with pytest.raises(NoSessionError):
                async with asyncio.timeout(20):
                    await run
        with pytest.raises(SessionLostError):
            await session.unary("/moby.buildkit.secrets.v1.Secrets/GetSecret", b"")
        with pytest.raises(ToranaError):
            async with send_file(session, 0, {}) as file:
                await file.write(b"x")
        assert before.leaked() == []
