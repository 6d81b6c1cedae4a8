"""The git source over ssh, against a real sshd of our own: agents and host keys."""

from __future__ import annotations

import getpass
import os
import shutil
import socketserver
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.integration.sources.conftest import Store
from tests.integration.sources.test_git import TREE, Remote, files, instance, look, remote

from torana.core.errors import NotFoundError
from torana.core.ops.source import SourceServices
from torana.plugins.sources.gitcommand import GitError

__all__ = ["remote"]  # a fixture

pytestmark = pytest.mark.needs("git", "sshd", "ssh", "ssh-keygen", "ssh-agent", "ssh-add")


@dataclass(frozen=True)
class Host:
    """An sshd, and an agent that has the key that it lets in."""

    port: int
    host_key: str
    agent: Path

    def url(self, remote: Remote) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{remote.bare}"


@dataclass(frozen=True)
class Agent:
    """Forwards one agent, under the id `default`."""

    socket: Path

    @asynccontextmanager
    async def forward(self, id: str, socket: Path) -> AsyncIterator[bool]:
        if id == "default":
            socket.symlink_to(self.socket)
        yield id == "default"


class _Server(socketserver.ThreadingTCPServer):
    """Has a port of the kernel's choice, which sshd itself cannot ask for."""

    command: list[str]


class _Connection(socketserver.BaseRequestHandler):
    """Hands a connection to an sshd of its own, as inetd does."""

    server: _Server

    def handle(self) -> None:
        file = self.request.fileno()
        subprocess.run(
            self.server.command, stdin=file, stdout=file, stderr=subprocess.DEVNULL, check=False
        )


@pytest.fixture
def host() -> Iterator[Host]:
    # Not pytest's folder: addresses of sockets are short.
    folder = Path(tempfile.mkdtemp(prefix="sshd-"))
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    agent = subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(folder / "agent")], stdout=subprocess.DEVNULL
    )
    (folder / "config").write_text(
        f"HostKey {folder}/host\nUsePAM no\nAuthorizedKeysFile {folder}/user.pub\n"
        "StrictModes no\nPidFile none\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd of Debian separates privileges
    server = _Server(("127.0.0.1", 0), _Connection)
    server.command = [str(shutil.which("sshd")), "-i", "-f", str(folder / "config")]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while not (folder / "agent").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        environment = {**os.environ, "SSH_AUTH_SOCK": str(folder / "agent")}
        subprocess.run(["ssh-add", "-q", str(folder / "user")], env=environment, check=True)
        yield Host(server.server_address[1], (folder / "host.pub").read_text(), folder / "agent")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        agent.terminate()
        agent.wait()
        shutil.rmtree(folder, ignore_errors=True)


def build(store: Store, host: Host) -> SourceServices:
    return replace(store.build(), ssh=Agent(host.agent))


async def test_a_key_of_the_agent(store: Store, remote: Remote, host: Host) -> None:
    source = instance(
        remote, build(store, host), "main", url=host.url(remote), mountsshsock="default"
    )
    assert (await source.cache_key(0)).pin == remote.first
    assert await look(source, files) == TREE


async def test_no_key(store: Store, remote: Remote, host: Host) -> None:
    with pytest.raises(NotFoundError, match='no SSH key "other" forwarded from the client'):
        await instance(
            remote, build(store, host), "main", url=host.url(remote), mountsshsock="other"
        ).cache_key(0)
    with pytest.raises(GitError, match="failed to fetch remote ssh://"):
        await instance(remote, build(store, host), "main", url=host.url(remote)).cache_key(0)


async def test_known_hosts(store: Store, remote: Remote, host: Host, tmp_path: Path) -> None:
    wanted = {"url": host.url(remote), "mountsshsock": "default"}
    known = f"[127.0.0.1]:{host.port} {host.host_key}"
    source = instance(remote, build(store, host), "main", knownsshhosts=known, **wanted)
    assert await look(source, files) == TREE
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "stranger")]
    subprocess.run(command, check=True)
    stranger = f"[127.0.0.1]:{host.port} {(tmp_path / 'stranger.pub').read_text()}"
    for wrong in (stranger, "elsewhere.example " + host.host_key):
        source = instance(remote, build(store, host), "main", knownsshhosts=wrong, **wanted)
        with pytest.raises(GitError) as caught:
            await source.cache_key(0)
        assert "Host key verification failed" in caught.value.__cause__.output  # type: ignore[union-attr]  # of the command
