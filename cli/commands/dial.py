"""`torana dial-stdio`: joins standard input and output to a daemon's socket.

Clients on other machines run it over ssh or in the daemon's container.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import threading
from pathlib import Path
from typing import Final

import click

from torana.core.errors import NotFoundError, UsageError

_CHUNK: Final = 1 << 18
_KNOWN_SOCKETS: Final = ("/run/torana/toranad.sock", "/run/buildkit/buildkitd.sock")


@click.command("dial-stdio", hidden=True)
@click.pass_context
def dial_stdio(ctx: click.Context) -> None:
    """Join standard input and output to the socket of a daemon on this machine."""
    with connect(ctx.obj["addr"]) as connection:
        reader = threading.Thread(target=_send, args=(connection,), daemon=True)
        reader.start()
        while data := connection.recv(_CHUNK):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()


def connect(address: str | None) -> socket.socket:
    """Connect to the daemon at `address`, or to the first one that is found on this machine.

    Raises:
        UsageError: the address is not one of this machine's sockets.
        NotFoundError: no daemon is there.
    """
    path = _path(address) if address else _first_socket()
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
    except OSError as err:
        connection.close()
        raise NotFoundError(
            f"no daemon answers: {(err.strerror or str(err)).lower()}: `{path}`",
            hint="start `toranad`, or name its socket with --addr",
        ) from err
    return connection


def _path(address: str) -> str:
    scheme, separator, path = address.partition("://")
    if not separator or scheme != "unix":
        raise UsageError(f"dial-stdio needs a unix socket: `{address}`", hint="unix:///path")
    return path


def _first_socket() -> str:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    own = [f"{runtime}/torana/toranad.sock"] if runtime else []
    found = [path for path in (*own, *_KNOWN_SOCKETS) if Path(path).is_socket()]
    return found[0] if found else _KNOWN_SOCKETS[0]


def _send(connection: socket.socket) -> None:
    """Copy standard input; its end is told to the daemon."""
    with connection.makefile("wb", buffering=0) as file:
        source = os.fdopen(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
        try:
            shutil.copyfileobj(source, file, _CHUNK)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            return  # the daemon has closed the connection
