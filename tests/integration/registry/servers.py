"""Registries for tests: a real one, and one of our own that misbehaves as told."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import socket
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

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


class LocalServer:
    """Serves on a port of the loopback until `close`; each request goes to `serve`."""

    def __init__(self) -> None:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.serve(self)

            do_HEAD = do_GET
            do_POST = do_GET
            do_PUT = do_GET
            do_PATCH = do_GET

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

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        raise NotImplementedError


class FaultyRegistry(LocalServer):
    """Serves blobs and manifests from memory; `faults[path]` are used up one per request."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.faults: dict[str, list[Fault]] = {}
        self.requests: Counter[str] = Counter()
        self.ranges: list[str] = []
        self.uploads: list[str] = []  # where they went
        self.mounts: list[tuple[str, str]] = []  # digest, repository
        self.authorizations: list[str] = []  # as they were sent
        self.has_ranges = True
        self.users: dict[str, str] = {}  # basic credentials; empty: anyone
        self.token_service: str = ""  # "": basic authentication
        self.tokens: list[str] = []
        self.uses = 0  # that a token is good for; 0: any number
        self._used: Counter[str] = Counter()
        self.mount_status = 0  # that mounts are refused with
        self.scopes: list[list[str]] = []  # that tokens were asked for
        self.has_mounts = True
        self.largest = 0  # body that is taken; 0: any
        self.pieces: list[str] = []  # ranges of chunks
        self.has_referrers = False
        self._parts: dict[str, bytes] = {}  # uploads by path
        self.lock = threading.Lock()
        super().__init__()

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
        match = re.fullmatch(r"/v2/.+?/(manifests|blobs|referrers)/(.+)", path)
        if request.command in ("POST", "PUT", "PATCH") and match:
            self._take(request, match[1], match[2], fault)
        elif match and match[1] == "manifests" and match[2] in self.manifests:
            media_type, data = self.manifests[match[2]]
            headers = {"Content-Type": media_type, "Docker-Content-Digest": digest_of(data)}
            self._send(request, 200, data, fault, headers)
        elif path == "/v2/":
            self._send(request, 200, b"{}")
        elif path in self._parts:
            self._send(request, 204, b"", headers=self._progress(path))
        elif match and match[1] == "referrers" and self.has_referrers:
            self._send(request, 200, json.dumps(self._referrers(match[2])).encode())
        elif match and match[1] == "blobs" and match[2] in self.blobs:
            self._send(request, 200, self.blobs[match[2]], fault, {})
        else:
            self._send(request, 404, b'{"errors":[{"code":"UNKNOWN","message":"unknown thing"}]}')

    def _take(
        self, request: BaseHTTPRequestHandler, kind: str, name: str, fault: Fault | None
    ) -> None:
        """Take an upload; with a fault `drop` only its beginning."""
        query = parse_qs(urlsplit(request.path).query)
        if self.mount_status and "mount" in query:
            self._send(request, self.mount_status, b"{}")
            return
        if request.command == "POST" and self.has_mounts and "mount" in query:
            if query["mount"][0] in self.blobs:
                self.mounts.append((query["mount"][0], query["from"][0]))
                self._send(request, 201, b"")
                return
        if request.command == "POST":
            path = urlsplit(request.path).path
            self._parts[f"{path}session{len(self.uploads)}"] = b""
            where = f"{path}session{len(self.uploads)}"
            self.uploads.append(where)
            self._send(request, 202, b"", headers={"Location": where.partition("?")[0]})
            return
        length = int(request.headers["Content-Length"])
        path = urlsplit(request.path).path
        if self.largest and length > self.largest:
            request.rfile.read(length)
            self._send(request, 413, b"{}")
            return
        if request.command == "PATCH":
            self._take_piece(request, path, length, fault)
            return
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
            data = self._parts.pop(path) + data
            if query["digest"][0] != digest_of(data):
                self._send(request, 400, b'{"errors":[{"message":"another digest"}]}')
                return
            self.blobs[digest_of(data)] = data
        headers = {"Docker-Content-Digest": digest_of(data)}
        if self.has_referrers and b'"subject"' in data:
            headers["OCI-Subject"] = json.loads(data)["subject"]["digest"]
        self._send(request, 201, b"", headers=headers)

    def _take_piece(
        self, request: BaseHTTPRequestHandler, path: str, length: int, fault: Fault | None
    ) -> None:
        if fault is not None and fault.kind == "drop":
            self._parts[path] += request.rfile.read(min(length, fault.value))
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        data = request.rfile.read(length)
        span = request.headers["Content-Range"]
        if int(span.partition("-")[0]) != len(self._parts[path]):
            self._send(request, 416, b"{}", headers=self._progress(path))
            return
        self.pieces.append(span)
        self._parts[path] += data
        self._send(request, 202, b"", headers=self._progress(path))

    def _progress(self, path: str) -> dict[str, str]:
        count = len(self._parts[path])
        return {"Location": path, **({"Range": f"0-{count - 1}"} if count else {})}

    def _referrers(self, subject: str) -> dict[str, Any]:
        found = []
        for media_type, data in dict.fromkeys(self.manifests.values()):
            document = json.loads(data)
            if document.get("subject", {}).get("digest") == subject:
                entry = {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}
                found.append({**entry, "artifactType": document.get("artifactType")})
        return {"schemaVersion": 2, "mediaType": INDEX, "manifests": found}

    def _may(self, request: BaseHTTPRequestHandler) -> bool:
        given = request.headers.get("Authorization", "")
        if self.token_service:
            token = given.removeprefix("Bearer ")
            self._used[token] += 1
            if token in self.tokens and not 0 < self.uses < self._used[token]:
                return True
            challenge = (
                f'Bearer realm="http://{self.host}/token",service="{self.token_service}",'
                'scope="repository:x:pull"'
            )
        else:
            if given in self.users.values():
                return True
            challenge = 'Basic realm="x"'
        request.rfile.read(int(request.headers.get("Content-Length") or 0))
        self._send(request, 401, b"{}", headers={"WWW-Authenticate": challenge})
        return False

    def _token(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("Content-Length") or 0)
        form = request.rfile.read(length).decode()
        given = request.headers.get("Authorization", "")
        if given not in self.users.values() and "refresh_token=good" not in form:
            self._send(request, 401, b"{}")
            return
        self.scopes.append(parse_qs(urlsplit(request.path).query).get("scope", []))
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


class RealRegistry:
    """`docker-registry` with a folder of its own.

    `certificate` and `key` make it speak TLS; with `client_authority` clients have to show who they
    are. `token` is its `auth.token` section. The port is the kernel's choice; it is kept when the
    registry is started again.
    """

    def __init__(
        self,
        folder: Path,
        *,
        htpasswd: str = "",
        certificate: Path | None = None,
        key: Path | None = None,
        client_authority: Path | None = None,
        token: dict[str, str] | None = None,
    ) -> None:
        self._folder = folder
        self._htpasswd = htpasswd
        self._tls = {} if certificate is None else {"certificate": certificate, "key": key}
        self._client_authority = client_authority
        self._token = token
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        assert self._port, "it was never started"
        return f"localhost:{self._port}"

    def start(self) -> None:
        document: dict[str, Any] = {
            "version": "0.1",
            "log": {"level": "info", "formatter": "json", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self._folder / "data")}},
            "http": {"addr": f"127.0.0.1:{self._port}"},
        }
        if self._tls:
            tls: dict[str, Any] = {name: str(path) for name, path in self._tls.items()}
            if self._client_authority is not None:
                tls["clientcas"] = [str(self._client_authority)]
            document["http"]["tls"] = tls
        if self._token is not None:
            document["auth"] = {"token": self._token}
        if self._htpasswd:
            (self._folder / "htpasswd").write_text(self._htpasswd)
            path = str(self._folder / "htpasswd")
            document["auth"] = {"htpasswd": {"realm": "test", "path": path}}
        (self._folder / "config.yml").write_text(json.dumps(document))
        log = open(self._folder / "log", "wb")
        with log:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", str(self._folder / "config.yml")],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while True:
            said = (self._folder / "log").read_text()
            if match := re.search(r"listening on 127\.0\.0\.1:(\d+)", said):
                self._port = int(match[1])
                return
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise AssertionError(said)
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None


class Proxy(LocalServer):
    """Stands before a registry and misbehaves: `faults` for requests whose line matches.

    A request line is `METHOD /path`. A fault is used `times` times.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self.faults: list[tuple[str, Fault, int]] = []
        self.requests: list[str] = []
        self._lock = threading.Lock()
        super().__init__()

    def _fault(self, line: str) -> Fault | None:
        with self._lock:
            self.requests.append(line)
            for number, (pattern, fault, times) in enumerate(self.faults):
                if times and re.search(pattern, line):
                    self.faults[number] = (pattern, fault, times - 1)
                    return fault
        return None

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        fault = self._fault(f"{request.command} {request.path}")
        length = int(request.headers.get("Content-Length") or 0)
        if fault is not None and fault.kind == "hang-up":
            request.rfile.read(min(length, fault.value))
            self._hang_up(request)
            return
        body = request.rfile.read(length)
        if fault is not None and fault.kind == "status":
            self._answer(request, fault.value, {"Content-Length": "2"}, b"{}")
            return
        upstream = http.client.HTTPConnection(self._target, timeout=60)
        try:
            upstream.request(request.command, request.path, body, dict(request.headers))
            response = upstream.getresponse()
            data = response.read()
            headers = {name: value for name, value in response.getheaders() if name != "Date"}
        finally:
            upstream.close()
        if fault is not None and fault.kind == "wrong":
            data = bytes(byte ^ 1 for byte in data)
        if fault is not None and fault.kind == "short":
            data = data[: fault.value]
            headers["Content-Length"] = str(len(data))
        if fault is not None and fault.kind == "drop":
            self._answer(request, response.status, headers, data[: fault.value])
            self._hang_up(request)
            return
        self._answer(request, response.status, headers, data)

    def _answer(
        self, request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], data: bytes
    ) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(data)
            request.wfile.flush()

    def _hang_up(self, request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        request.connection.shutdown(socket.SHUT_RDWR)
