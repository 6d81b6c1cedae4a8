"""`DockerLoad`: the images of a Docker daemon of this machine as the place an export goes to.

Spec: Docker Engine API, `POST /images/load`; `docker buildx build --load`.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from torana.core.errors import ToranaError, UserError
from torana.gateway.engines.remote.address import (
    TLS,
    DockerAddress,
    SocketAddress,
    TCPAddress,
    parse_address,
)

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_PIECE: Final = 1 << 20
_MAX_ANSWER: Final = 1 << 20


class DockerLoadError(ToranaError):
    """A Docker daemon cannot be reached, or does not take an image."""

    code = "DOCKER_LOAD_FAILED"


class DockerLoad:
    """Loads what is written into the daemon that `docker` commands talk to."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._environment = environment

    @contextmanager
    def file(self, answer: Mapping[str, str] | None = None) -> Iterator[BinaryIO]:
        """Open the daemon's end; the image is there when it is left.

        Raises:
            DockerLoadError: it cannot be reached, or refuses the image.
        """
        address, shown = _address(self._environment)
        connection = _Connection(address)
        chunks = _Chunks(connection, shown)
        try:
            with _told(shown):
                connection.putrequest("POST", "/images/load?quiet=1")
                connection.putheader("Content-Type", "application/x-tar")
                connection.putheader("Transfer-Encoding", "chunked")
                connection.endheaders()
            pipe = io.BufferedWriter(chunks, _PIECE)
            yield cast("BinaryIO", pipe)
            pipe.flush()
            with _told(shown):
                connection.send(b"0\r\n\r\n")
                _check(connection.getresponse(), shown)
        finally:
            chunks.close()  # what is buffered after a failure goes nowhere
            connection.close()

    def directory(self) -> Path:
        raise UserError("a Docker daemon takes no folder", hint="leave out tar=false")


def _address(environment: Mapping[str, str]) -> tuple[SocketAddress | TCPAddress, str]:
    tls = None
    if environment.get("DOCKER_TLS_VERIFY"):
        folder = Path(environment.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
        tls = TLS(
            authority=folder / "ca.pem", certificate=folder / "cert.pem", key=folder / "key.pem"
        )
    host = environment.get("DOCKER_HOST", "")
    found = parse_address("docker://", tls=tls, docker_host=host)
    assert isinstance(found, DockerAddress)
    at = found.at
    return at, host or f"unix://{at.path}" if isinstance(at, SocketAddress) else host


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket, TCP or TLS."""

    def __init__(self, address: SocketAddress | TCPAddress) -> None:
        self._address = address
        super().__init__("docker" if isinstance(address, SocketAddress) else address.host)

    def connect(self) -> None:
        address = self._address
        if isinstance(address, SocketAddress):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(address.path)
            return
        plain = socket.create_connection((address.host, address.port))
        self.sock = plain
        if address.tls is not None:
            context = ssl.create_default_context(cafile=address.tls.authority)
            if address.tls.certificate is not None:
                context.load_cert_chain(address.tls.certificate, address.tls.key)
            self.sock = context.wrap_socket(plain, server_hostname=address.host)


class _Chunks(io.RawIOBase):
    """Sends what is written as chunks of a request's body."""

    def __init__(self, connection: _Connection, shown: str) -> None:
        self._connection = connection
        self._shown = shown

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        piece = bytes(data)
        if piece:
            try:
                self._connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            except OSError as err:
                self._refused(err)
        return len(piece)

    def _refused(self, err: OSError) -> None:
        """Say why the daemon hung up, if it has answered before it did."""
        with suppress(OSError, http.client.HTTPException):
            _check(self._connection.getresponse(), self._shown)
        raise _failure(self._shown, err) from err


@contextmanager
def _told(shown: str) -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException) as err:
        raise _failure(shown, err) from err


def _failure(shown: str, err: Exception) -> DockerLoadError:
    reason = err.strerror if isinstance(err, OSError) and err.strerror else str(err)
    return DockerLoadError(
        f"the Docker daemon at {shown} does not take the image: {reason.lower()}",
        hint="is it running? DOCKER_HOST names another; dest=FILE writes an archive instead",
    )


def _check(response: http.client.HTTPResponse, shown: str) -> None:
    """Read the answer, which tells of an error in its status or in one of its lines."""
    with response:
        answer = response.read(_MAX_ANSWER)
    said = ""
    for line in answer.splitlines():
        try:
            document = json.loads(line)
        except ValueError:
            continue
        if isinstance(document, dict):
            said = str(document.get("error") or "") or said
            if response.status >= 400:
                said = str(document.get("message") or "") or said
    if said or response.status >= 400:
        raise DockerLoadError(
            f"the Docker daemon at {shown} refuses the image: {said or response.reason}"
        )
