"""Registries for tests: a real one, and one of our own that misbehaves as told."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Fault:
    """What goes wrong once: a status, or a body that is cut, short or altered."""

    kind: str  # status, drop, short, wrong, hang-up
    value: int = 0
    headers: dict[str, str] = field(default_factory=dict)


class FaultyRegistry:
    """Serves blobs and manifests from memory; `faults[path]` are used up one per request."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.faults: dict[str, list[Fault]] = {}
        self.requests: Counter[str] = Counter()
        self.ranges: list[str] = []
        self.uploads: list[str] = []  # where they went
        self.authorizations: list[str] = []  # as they were sent
        self.has_ranges = True
        self.users: dict[str, str] = {}  # basic credentials; empty: anyone
        self.token_service: str = ""  # "": basic authentication
        self.tokens: list[str] = []
        self.lock = threading.Lock()
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                registry.serve(self)

            do_HEAD = do_GET
            do_POST = do_GET
            do_PUT = do_GET

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.host = f"127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    # Content

    def blob(self, data: bytes, media_type: str = LAYER) -> dict[str, Any]:
        self.blobs[digest_of(data)] = data
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    def manifest(self, name: str, document: dict[str, Any]) -> dict[str, Any]:
        """Add a manifest or index under a tag; gives its descriptor."""
        data = json.dumps(document).encode()
        media_type = document["mediaType"]
        self.manifests[name] = self.manifests[digest_of(data)] = media_type, data
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    def image(
        self, tag: str, layers: list[bytes], diff_ids: list[str] | None = None, **config: Any
    ) -> dict[str, Any]:
        """Add an image of plain layer tars."""
        described = {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {
                "type": "layers",
                "diff_ids": diff_ids or [digest_of(layer) for layer in layers],
            },
            **config,
        }
        return self.manifest(
            tag,
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": self.blob(json.dumps(described).encode(), CONFIG),
                "layers": [self.blob(layer) for layer in layers],
            },
        )

    # Answers

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        with self.lock:
            self.requests[f"{request.command} {path}"] += 1
            self.authorizations.append(request.headers.get("Authorization", ""))
            if "Range" in request.headers:
                self.ranges.append(request.headers["Range"])
            pending = self.faults.get(path, [])
            fault = pending.pop(0) if pending else None
        if path == "/token":
            self._token(request)
            return
        if fault is not None and fault.kind == "status":
            self._send(request, fault.value, b"{}", headers=fault.headers)
            return
        if fault is not None and fault.kind == "hang-up":
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        if self.users and not self._may(request):
            return
        match = re.fullmatch(r"/v2/.+?/(manifests|blobs)/(.+)", path)
        if request.command in ("POST", "PUT") and match:
            self._take(request, match[1], match[2], fault)
        elif match and match[1] == "manifests" and match[2] in self.manifests:
            media_type, data = self.manifests[match[2]]
            headers = {"Content-Type": media_type, "Docker-Content-Digest": digest_of(data)}
            self._send(request, 200, data, fault, headers)
        elif match and match[1] == "blobs" and match[2] in self.blobs:
            self._send(request, 200, self.blobs[match[2]], fault, {})
        else:
            self._send(request, 404, b'{"errors":[{"code":"UNKNOWN","message":"unknown thing"}]}')

    def _take(
        self, request: BaseHTTPRequestHandler, kind: str, name: str, fault: Fault | None
    ) -> None:
        """Take an upload; with a fault `drop` only its beginning."""
        if request.command == "POST":
            where = f"{request.path}session{len(self.uploads)}"
            self.uploads.append(where)
            self._send(request, 202, b"", headers={"Location": where})
            return
        length = int(request.headers["Content-Length"])
        if fault is not None and fault.kind == "drop":
            request.rfile.read(min(length, fault.value))
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        data = request.rfile.read(length)
        if kind == "manifests":
            media_type = request.headers["Content-Type"]
            self.manifests[name] = self.manifests[digest_of(data)] = media_type, data
        else:
            self.blobs[digest_of(data)] = data
        self._send(request, 201, b"", headers={"Docker-Content-Digest": digest_of(data)})

    def _may(self, request: BaseHTTPRequestHandler) -> bool:
        given = request.headers.get("Authorization", "")
        if self.token_service:
            if given.removeprefix("Bearer ") in self.tokens:
                return True
            challenge = (
                f'Bearer realm="http://{self.host}/token",service="{self.token_service}",'
                'scope="repository:x:pull"'
            )
        else:
            if given in self.users.values():
                return True
            challenge = 'Basic realm="x"'
        self._send(request, 401, b"{}", headers={"WWW-Authenticate": challenge})
        return False

    def _token(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("Content-Length") or 0)
        form = request.rfile.read(length).decode()
        given = request.headers.get("Authorization", "")
        if given not in self.users.values() and "refresh_token=good" not in form:
            self._send(request, 401, b"{}")
            return
        token = f"token{len(self.tokens)}"
        self.tokens.append(token)
        key = "access_token" if form else "token"
        self._send(request, 200, json.dumps({key: token, "expires_in": 300}).encode())

    def _send(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        data: bytes,
        fault: Fault | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        extra = dict(headers or {})
        asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        if asked and self.has_ranges and status == 200:
            start = int(asked[1])
            status = 206
            extra["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            data = data[start:]
        if fault is not None and fault.kind == "wrong":
            data = bytes(byte ^ 1 for byte in data)
        if fault is not None and fault.kind == "short":
            data = data[: fault.value]
        if fault is not None and fault.kind == "long":
            data += b"more"
        request.send_response(status)
        for name, value in extra.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        if request.command == "HEAD":
            return
        if fault is not None and fault.kind == "drop":
            request.wfile.write(data[: fault.value])
            request.wfile.flush()
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        request.wfile.write(data)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RealRegistry:
    """`docker-registry` with a folder of its own."""

    def __init__(self, folder: Path, *, htpasswd: str = "") -> None:
        self._folder = folder
        self._htpasswd = htpasswd
        self.host = f"localhost:{_free_port()}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        port = self.host.rpartition(":")[2]
        document: dict[str, Any] = {
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self._folder / "data")}},
            "http": {"addr": f"127.0.0.1:{port}"},
        }
        if self._htpasswd:
            (self._folder / "htpasswd").write_text(self._htpasswd)
            path = str(self._folder / "htpasswd")
            document["auth"] = {"htpasswd": {"realm": "test", "path": path}}
        (self._folder / "config.yml").write_text(json.dumps(document))
        log = open(self._folder / "log", "ab")
        with log:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", str(self._folder / "config.yml")],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 20
        while True:
            try:
                with urllib.request.urlopen(f"http://{self.host}/v2/", timeout=2):
                    return
            except urllib.error.HTTPError:
                return
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise AssertionError((self._folder / "log").read_text()) from None
                time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None
