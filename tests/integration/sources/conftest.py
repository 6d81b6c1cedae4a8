"""A store's services for sources, and a web server that can be told to misbehave."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from torana.core.ops.source import SourceServices
from torana.core.worker import Worker


class Progress:
    """Keeps what a source reports."""

    def __init__(self) -> None:
        self.statuses: list[tuple[str, int, int, bool]] = []
        self.printed = b""

    def log(self, stream: int, data: bytes) -> None:
        self.printed += data

    def status(
        self, id: str, *, name: str = "", current: int = 0, total: int = 0, done: bool = False
    ) -> None:
        self.statuses.append((id, current, total, done))


class Secrets:
    """Secrets by id."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def get(self, id: str) -> bytes | None:
        return self.values.get(id)


@dataclass
class Store:
    """One root; `build` gives the services of one more build."""

    worker: Worker
    progress: Progress = field(default_factory=Progress)
    secrets: Secrets = field(default_factory=Secrets)

    def build(self) -> SourceServices:
        worker = self.worker
        return SourceServices(
            root=worker.root,
            refs=worker.refs,
            content=worker.content,
            images=worker.images,
            image_layers=worker.image_layers,
            database=worker.database,
            memo={},
            progress=self.progress,
            secrets=self.secrets,
        )

    def forget_all(self) -> None:
        """Remove every record, as a crash may."""
        for id in self.worker.refs.records.ids():
            self.worker.refs.records.delete(id)
            self.worker.refs.remove_data(id)

    def unfinished(self) -> set[str]:
        """Give snapshots that no record names."""
        return set(self.worker.refs.snapshots.names()) - set(self.worker.refs.records.ids())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    worker = Worker(tmp_path / "store")
    yield Store(worker)
    worker.close()


@dataclass
class Web:
    """A server of one file; counts what it is asked."""

    body: bytes = b"hello"
    headers: dict[str, str] = field(default_factory=dict)
    etag: str = '"one"'
    statuses: list[int] = field(default_factory=list)  # answered first, one each
    break_after: list[int] = field(default_factory=list)  # bytes; then the connection drops
    has_ranges: bool = True
    head_status: int = 200
    sends_etag_with_304: bool = True
    is_gzipped: bool = False
    location: str = ""
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    port: int = 0

    @property
    def rest(self) -> str:
        return f"127.0.0.1:{self.port}/dir/file.bin"

    def methods(self) -> list[str]:
        return [method for method, _ in self.requests]


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        web = self._note()
        self._reply(self.server.web.head_status, web.body, with_body=False)

    def do_GET(self) -> None:
        web = self._note()
        if web.location and "elsewhere" not in self.path:
            self.send_response(302)
            self.send_header("Location", web.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if web.statuses:
            self._reply(web.statuses.pop(0), b"sorry")
            return
        if web.etag and web.etag in self.headers.get("If-None-Match", ""):
            self.send_response(304)
            if web.sends_etag_with_304:
                self.send_header("ETag", web.etag)
            self.end_headers()
            return
        body = gzip.compress(web.body) if web.is_gzipped else web.body
        asked = self.headers.get("Range", "")
        if asked and web.has_ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            self._reply(206, body[start:], range=f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self._reply(200, body)

    def _note(self) -> Web:
        web = self.server.web
        web.requests.append((self.command, dict(self.headers.items())))
        return web

    def _reply(self, status: int, body: bytes, *, range: str = "", with_body: bool = True) -> None:
        web = self.server.web
        self.send_response(status)
        headers = {"Content-Length": str(len(body)), "ETag": web.etag, **web.headers}
        if web.has_ranges:
            headers["Accept-Ranges"] = "bytes"
        if range:
            headers["Content-Range"] = range
        if web.is_gzipped:
            headers["Content-Encoding"] = "gzip"
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if not with_body:
            return
        if status < 300 and web.break_after:
            self.wfile.write(body[: web.break_after.pop(0)])
            self.close_connection = True
            return
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    web: Web


@pytest.fixture
def web() -> Iterator[Web]:
    server = _Server(("127.0.0.1", 0), _Handler)
    server.web = Web(port=server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.web
    server.shutdown()
    server.server_close()
    thread.join()
