"""`DebugServer`: `/metrics` and `/debug/...` over HTTP, for people and Prometheus.

Runs in a thread of its own, so that it answers while the event loop is busy.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from torana.core.errors import UserError

Page = Callable[[], tuple[str, bytes]]
"""Gives a media type and a body; called in a thread of the server's."""


def json_page(read: Callable[[], Any]) -> Page:
    """Make a page of JSON."""
    return lambda: ("application/json", json.dumps(read(), indent=1).encode() + b"\n")


class DebugServer:
    """Serves `pages` by path; never more than reading."""

    def __init__(self, address: str, pages: Mapping[str, Page]) -> None:
        host, colon, port = address.rpartition(":")
        if not colon or not port.isdigit():
            raise UserError(f"invalid debug address: `{address}`", hint="HOST:PORT")
        self._server = _Server((host.strip("[]") or "127.0.0.1", int(port)), _Handler)
        self._server.pages = dict(pages)
        self._thread = threading.Thread(target=self._server.serve_forever, name="debug-http")

    @property
    def port(self) -> int:
        """Give the port; it was chosen by the kernel if the address had port 0."""
        return self._server.server_port

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    pages: dict[str, Page]


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, _Server)
        pages = self.server.pages
        page = pages.get(self.path.partition("?")[0].rstrip("/") or "/")
        if page is None:
            self._answer(404, "text/plain", ("\n".join(sorted(pages)) + "\n").encode())
            return
        try:
            kind, body = page()
        except Exception as err:  # a page must not take the server down
            self._answer(500, "text/plain", f"{type(err).__name__}: {err}\n".encode())
            return
        self._answer(200, kind, body)

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: scrapes come every few seconds."""
