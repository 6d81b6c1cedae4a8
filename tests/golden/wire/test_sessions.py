"""Recorded sessions: our client answers as the recorded one did, our engine gets what it sent."""

from __future__ import annotations

import io
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from tests.golden.wire import recording
from tests.golden.wire.player import (
    FILE_SEND,
    FILE_SYNC,
    HEALTH,
    RecordedClient,
    Tree,
    carries_packets,
    file_content,
    make_context,
    play,
)
from tests.unit.gateway.session.tunnels import tunnelled

from torana.gateway.protocol import filemode
from torana.gateway.protocol.content_pb2 import InfoResponse, WriteContentResponse
from torana.gateway.protocol.secrets_pb2 import GetSecretRequest
from torana.gateway.session.auth import Auth, Credentials
from torana.gateway.session.contents import Contents
from torana.gateway.session.files.receiver import ReceiveOptions
from torana.gateway.session.files.writer import WriteOptions
from torana.gateway.session.filesend import FileSend, FileTarget, FolderTarget
from torana.gateway.session.filesync import FileSync, FolderRequest, receive_folder
from torana.gateway.session.layout import LayoutStore
from torana.gateway.session.local import LocalSession
from torana.gateway.session.manager import SessionManager
from torana.gateway.session.secrets import Secrets, SessionSecrets
from torana.gateway.session.ssh import SSHAgents
from torana.gateway.session.transport import Service, Session
from torana.gateway.session.upload import Uploads
from torana.gateway.testing.recordings import Recording, Rpc

OWNER = (os.geteuid(), os.getegid())
NOT_OURS = ("PolicyVerifier/CheckPolicy",)  # for the client of buildx


NEEDS_MORE = {"dockerfile-cached"}  # the engine of the recording had files already


def with_sessions() -> list[str]:
    return [
        name
        for name in recording.names()
        if any(rpc.connection.startswith("s") for rpc in recording.load(name).rpcs.values())
    ]


def inner(found: Recording) -> list[Rpc]:
    return [rpc for rpc in found.rpcs.values() if rpc.connection.startswith("s")]


# Our client, the recorded engine


class FixedSecrets:
    """The secrets of `secret-ssh`."""

    async def get(self, id: str) -> bytes | None:
        return {"token": b"throw-away-token\n", "word": b"throw-away-word"}.get(id)


class FixedCredentials:
    """The registry of `image-push-auth`."""

    async def credentials(self, host: str) -> Credentials:
        return Credentials("fixture", "throw-away")


class Client:
    """A client of ours in the recorded one's place."""

    def __init__(self, found: Recording, folder: Path, agent: Path) -> None:
        self._found = found
        self._folder = folder
        self.files: dict[int, io.BytesIO] = {}
        self.answers: dict[int, Mapping[str, str]] = {}
        uploads = Uploads()
        for rpc in found.of("Upload/Pull"):
            data = file_content(rpc.messages(of_caller=False))
            uploads.add(rpc.values("urlpath")[0].strip("/"), io.BytesIO(data))
        self.services: list[Service] = [
            FileSync(self._folders()),
            FileSend(dict(self._targets())),
            Secrets(FixedSecrets()),
            SSHAgents({"default": agent}),
            Auth(FixedCredentials()),
            Contents(self._stores()),
            uploads,
        ]

    def _folders(self) -> Mapping[str, Path]:
        argv = self._found.scenario["argv"]
        named = (argv[n + 1].split("=", 1) for n, text in enumerate(argv) if text == "--local")
        folders = {"context": self._folder, "dockerfile": self._folder}
        return folders | {name: self._folder / path for name, path in named}

    def _targets(self) -> Iterator[tuple[int, FolderTarget | FileTarget]]:
        for rpc in self._found.of("FileSend/DiffCopy"):
            number = int(rpc.values("buildkit-attachable-exporter-id")[0])
            if carries_packets(rpc):
                yield number, FolderTarget(self._folder / f"export-{number}")
            else:
                yield number, FileTarget(partial(self._file, number))

    def _file(self, number: int, answer: Mapping[str, str]) -> AbstractContextManager[BinaryIO]:
        self.answers[number] = answer
        self.files[number] = io.BytesIO()
        return nullcontext(self.files[number])

    def _stores(self) -> Mapping[str, LayoutStore]:
        ids = {v for rpc in inner(self._found) for v in rpc.values("buildkit-attachable-store-id")}
        paths = {"oci:store": "layout", "local:cache": "cache"}
        return {
            id: LayoutStore(self._folder / paths.get(id, "stored"), is_writable=True) for id in ids
        }


@pytest.fixture
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The agent of `secret-ssh`: answers the one request as the recorded one did."""
    path = tmp_path_factory.mktemp("agent") / "s"
    messages = recording.load("secret-ssh").of("SSH/ForwardAgent")[0].messages(of_caller=False)
    answer = file_content(messages)

    def serve() -> None:
        while True:
            try:
                connected, _ = listener.accept()
            except OSError:
                return
            with connected:
                while connected.recv(65536):
                    connected.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        yield path
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@contextmanager
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("form", ["local", "tunnel"])
@pytest.mark.parametrize("name", with_sessions())
async def test_our_client_answers_as_the_recorded_one(
    name: str, form: str, tmp_path: Path, agent: Path
) -> None:
    found = recording.load(name)
    with no_umask():
        make_context(found, tmp_path / "src")
    client = Client(found, tmp_path / "src", agent)
    if form == "local":
        await compare_client(found, client, LocalSession(client.services))
    else:
        async with tunnelled(tmp_path, client.services) as session:
            await compare_client(found, client, session)


async def compare_client(found: Recording, client: Client, session: Session) -> None:
    for rpc in inner(found):
        method = rpc.method.partition(".v1.")[2]
        if rpc.method.startswith(HEALTH) or rpc.method.endswith(NOT_OURS):
            continue
        is_unary = recording.is_unary(rpc)
        played = await play(session, rpc, is_unary=is_unary)
        end = rpc.end
        if method != "SSH/ForwardAgent":  # there Go reports the end of the agent's connection
            code = end.code if end is not None and end.kind == "status" else 0
            assert played.code == code, (method, played.error)
        if rpc.method == FILE_SYNC:
            assert played.tree is not None or played.error is not None
            if played.tree is not None:
                compare_trees(played.tree, Tree.of(rpc.messages(of_caller=False)))
        elif rpc.method == FILE_SEND:
            compare_export(rpc, client)
        else:
            expected = rpc.messages(of_caller=False)
            compare_answers(method, expected, played.answers)


def compare_trees(ours: Tree, theirs: Tree) -> None:
    assert [stat.path for stat in ours.stats] == [stat.path for stat in theirs.stats]
    for one, other in zip(ours.stats, theirs.stats, strict=True):
        assert one == other
    assert ours.contents == theirs.contents


def compare_export(rpc: Rpc, client: Client) -> None:
    number = int(rpc.values("buildkit-attachable-exporter-id")[0])
    if not carries_packets(rpc):
        assert client.files[number].closed is False
        assert client.files[number].getvalue() == file_content(rpc.messages(of_caller=True))
        for key, value in rpc.texts:
            if key.startswith("exporter-md-"):
                assert client.answers[number][key.removeprefix("exporter-md-")] == value
        return
    folder = client._folder / f"export-{number}"
    compare_folder(folder, Tree.of(rpc.messages(of_caller=True)))


def compare_folder(folder: Path, tree: Tree) -> None:
    """Compare a folder with what was sent, owners aside."""
    for number, stat in enumerate(tree.stats):
        path = folder / os.fsdecode(stat.path)
        status = path.lstat()
        mode = filemode.to_go(status.st_mode)
        assert mode == stat.mode, stat.path
        if not stat.mode & filemode.DIR:
            assert status.st_mtime_ns == stat.modTime, stat.path
        if stat.mode & filemode.SYMLINK:
            assert os.fsencode(os.readlink(path)) == stat.linkname
        elif stat.linkname:
            assert path.samefile(folder / os.fsdecode(stat.linkname))
        elif not stat.mode & filemode.TYPE:
            assert path.read_bytes() == tree.contents[number], stat.path


def written(answer: WriteContentResponse) -> tuple[int, int, int, str]:
    return answer.action, answer.offset, answer.total, answer.digest


def compare_answers(method: str, expected: list[bytes], answers: list[bytes]) -> None:
    match method:
        case "Content/Write":  # without times; containerd says the last answer twice
            recorded, given = (
                [written(WriteContentResponse.FromString(m)) for m in part]
                for part in (expected, answers)
            )
            assert given in (recorded, recorded[:-1])
        case "Content/Info":
            for theirs, ours in zip(expected, answers, strict=True):
                info, our_info = (InfoResponse.FromString(m).info for m in (theirs, ours))
                assert (info.digest, info.size) == (our_info.digest, our_info.size)
        case "Upload/Pull" | "SSH/ForwardAgent":
            assert file_content(answers) == file_content(expected)
        case _:
            assert answers == expected


# Our engine, the recorded client


def request_of(rpc: Rpc) -> FolderRequest:
    lists: dict[str, Any] = {
        "include": rpc.values("include-patterns") or None,
        "exclude": rpc.values("exclude-patterns") or None,
        "follow_paths": rpc.values("followpaths") or None,
    }
    return FolderRequest(name=rpc.values("dir-name")[0], **lists)


@pytest.mark.parametrize("name", sorted(set(with_sessions()) - NEEDS_MORE))
async def test_our_engine_receives_what_the_recorded_client_sent(name: str, tmp_path: Path) -> None:
    found = recording.load(name)
    options = ReceiveOptions(write=WriteOptions(owner=OWNER))
    for conn in sorted({rpc.connection for rpc in inner(found)}):
        client = RecordedClient(found, conn)
        manager = SessionManager()
        session = LocalSession([client], id=client.id, shared_key=client.shared_key)
        with manager.registered(session):
            for rpc in (rpc for rpc in inner(found) if rpc.connection == conn):
                folder = tmp_path / str(rpc.number)
                folder.mkdir()
                if rpc.method == FILE_SYNC:
                    await receive_folder(session, request_of(rpc), folder, options)
                    compare_folder(folder, Tree.of(rpc.messages(of_caller=False)))
                elif rpc.method.endswith("Secrets/GetSecret"):
                    id = GetSecretRequest.FromString(rpc.messages(of_caller=True)[0]).ID
                    value = await SessionSecrets(manager, [client.id]).get(id)
                    assert (value is None) is (rpc.messages(of_caller=False) == [])
        assert client.unexpected == []
        played = {FILE_SYNC, "/moby.buildkit.secrets.v1.Secrets/GetSecret"}
        assert [rpc.number for rpc in client.unplayed() if rpc.method in played] == []
