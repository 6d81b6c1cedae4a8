"""An authority of our own and what it signs: certificates for TLS, tokens for registries."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
import time
import urllib.parse
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def _openssl(*arguments: str | Path, data: bytes = b"") -> bytes:
    command = ["openssl", *map(str, arguments)]
    return subprocess.run(command, input=data, check=True, capture_output=True, timeout=60).stdout


class Authority:
    """Signs certificates; `certificate` is its own."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self.certificate, self.key = folder / f"{name}.crt", folder / f"{name}.key"
        _openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
            "-keyout", self.key, "-out", self.certificate,
        )  # fmt: skip

    def sign(self, name: str, usage: str) -> tuple[Path, Path]:
        """Give certificate and key for `localhost`; `usage` is `serverAuth` or `clientAuth`."""
        key, request = self._folder / f"{name}.key", self._folder / f"{name}.csr"
        certificate, extra = self._folder / f"{name}.crt", self._folder / f"{name}.ext"
        _openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
            "-keyout", key, "-out", request,
        )  # fmt: skip
        extra.write_text(f"subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage={usage}\n")
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key,
            "-CAcreateserial", "-days", "2", "-extfile", extra, "-out", certificate,
        )  # fmt: skip
        return certificate, key


class TokenServer:
    """Gives tokens that a real registry takes: to ann for everything, to others only to pull.

    Spec: Docker registry token authentication, JWT.
    """

    service = "registry.test"
    issuer = "tokens.test"
    user = "ann:secret"

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self.asked: Counter[str] = Counter()  # scopes
        self.users: set[str] = set()  # empty for nobody
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.realm = f"http://127.0.0.1:{self._server.server_address[1]}/token"

    @property
    def section(self) -> dict[str, str]:
        """Give what the registry has to know."""
        return {
            "realm": self.realm,
            "service": self.service,
            "issuer": self.issuer,
            "rootcertbundle": str(self._authority.certificate),
        }

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(request.path).query)
        scopes = [scope for text in query.get("scope", []) for scope in text.split()]
        self.asked.update(scopes)
        given = request.headers.get("Authorization", "").removeprefix("Basic ")
        user = base64.b64decode(given).decode()
        self.users.add(user.partition(":")[0])
        if user and user != self.user:
            body, status = b"{}", 401
        else:
            granted = ["pull", "push"] if user else ["pull"]
            body, status = json.dumps({"token": self._token(scopes, granted)}).encode(), 200
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def _token(self, scopes: list[str], granted: list[str]) -> str:
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            allowed = [action for action in actions.split(",") if action in granted]
            access.append({"type": kind, "name": name, "actions": allowed})
        der = _openssl("x509", "-in", self._authority.certificate, "-outform", "DER")
        header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": "ann",
            "aud": self.service,
            "exp": now + 3600,
            "nbf": now - 60,
            "iat": now - 60,
            "jti": "1",
            "access": access,
        }
        signed = b".".join(_encoded(json.dumps(part).encode()) for part in (header, claims))
        signature = _openssl("dgst", "-sha256", "-sign", self._authority.key, data=signed)
        return (signed + b"." + _encoded(signature)).decode()


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
