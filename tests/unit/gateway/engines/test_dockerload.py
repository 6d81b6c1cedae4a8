"""Loading into a Docker daemon, one that says what a test wants."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from torana.core.errors import UserError
from torana.gateway.engines.dockerload import DockerLoad, DockerLoadError


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


class Daemon:
    """Takes images; `answer` is its last word, `limit` how much it reads before that."""

    def __init__(self, path: Path) -> None:
        self.taken = b""
        self.request = ""
        self.status = 200
        self.answer: dict[str, Any] = {"stream": "Loaded image: x"}
        self.limit: int | None = None
        daemon = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                daemon.request = self.path
                while size := int(self.rfile.readline(), 16):
                    daemon.taken += self.rfile.read(size + 2)[:-2]
                    if daemon.limit is not None and len(daemon.taken) > daemon.limit:
                        break
                self.send_response(daemon.status)
                self.end_headers()
                self.wfile.write(json.dumps(daemon.answer).encode())
                self.wfile.flush()
                if daemon.limit is not None:
                    self.connection.shutdown(socket.SHUT_RDWR)

            def address_string(self) -> str:
                return "client"

            def log_message(self, *args: Any) -> None:
                pass

        self.host = f"unix://{path}"
        self._server = _Server(str(path), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path / "d.sock")
    yield made
    made.close()


def load(host: str, data: bytes) -> None:
    with DockerLoad({"DOCKER_HOST": host}).file() as file:
        for start in range(0, len(data), 300_000):
            file.write(data[start : start + 300_000])


def test_what_is_written_arrives(daemon: Daemon) -> None:
    data = bytes(range(256)) * 10_000
    load(daemon.host, data)
    assert daemon.taken == data
    assert daemon.request.startswith("/images/load")


def test_refusals_are_told(daemon: Daemon) -> None:
    daemon.answer = {"errorDetail": {"message": "x"}, "error": "no space left"}
    with pytest.raises(DockerLoadError, match="refuses the image: no space left"):
        load(daemon.host, b"x")
    daemon.status, daemon.answer = 500, {"message": "bad archive"}
    with pytest.raises(DockerLoadError, match="refuses the image: bad archive"):
        load(daemon.host, b"x")


def test_a_daemon_that_hangs_up(daemon: Daemon) -> None:
    daemon.limit, daemon.status, daemon.answer = 1000, 400, {"message": "too large"}
    with pytest.raises(DockerLoadError, match=r"refuses the image: too large|does not take"):
        load(daemon.host, bytes(20_000_000))


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(DockerLoadError, match="no such file or directory") as caught:
        load(f"unix://{tmp_path}/none.sock", b"x")
    assert "DOCKER_HOST" in (caught.value.hint or "")
    with pytest.raises(UserError, match="takes no folder"):
        DockerLoad({}).directory()
