"""Where `toranad` listens: unix sockets, TCP with TLS, sockets that systemd passes.

grpcio cannot take a listening descriptor, so what systemd passes is relayed, byte for byte, to a
private unix socket. It does not care for a socket's mode either: that is the umask's.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import grpc

from torana.core.errors import ConflictError, UserError
from torana.core.records import dataclass
from torana.gateway.daemon.config import TLSConfig
from torana.gateway.daemon.systemd import pick_listeners

log = logging.getLogger(__name__)

_SOCKET_UMASK: Final = 0o117  # 0660
_CHUNK: Final = 1 << 18


class AddressError(UserError):
    """An address cannot be understood or used."""

    code = "ADDRESS_INVALID"


@dataclass(frozen=True, slots=True)
class Address:
    """`unix://PATH`, `tcp://HOST:PORT` or `fd://NAME`."""

    scheme: str
    target: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.target}"


def parse_address(text: str) -> Address:
    """Read an address.

    Raises:
        AddressError: no scheme, an unknown one, or nothing after it.
    """
    scheme, separator, target = text.partition("://")
    if not separator:
        raise AddressError(f"address {text} does not contain proto, you meant unix://{text} ?")
    if scheme not in ("unix", "tcp", "fd"):
        raise AddressError(f"addr {text} not supported", hint="known: unix://, tcp:// and fd://")
    if scheme != "fd" and not target:
        raise AddressError(f"address has nothing after `{scheme}://`")
    if scheme == "tcp" and ":" not in target:
        raise AddressError(f"address has no port: `{text}`")
    return Address(scheme, target)


def credentials(tls: TLSConfig) -> grpc.ServerCredentials:
    """Read certificates; with a CA, clients must show one that it signed.

    Raises:
        AddressError: a file cannot be read.
    """
    try:
        pair = (tls.key.read_bytes(), tls.cert.read_bytes())
        ca = None if tls.ca is None else tls.ca.read_bytes()
    except OSError as err:
        raise AddressError(f"certificate cannot be read: {err.strerror}: `{err.filename}`") from err
    return grpc.ssl_server_credentials([pair], ca, require_client_auth=ca is not None)


class Listeners:
    """Binds a server that has not been started to addresses; `close` removes what was made."""

    def __init__(
        self,
        *,
        tls: TLSConfig | None = None,
        uid: int | None = None,
        gid: int | None = None,
        passed: Mapping[str, list[socket.socket]] | None = None,
        may_be_open: bool = False,
    ) -> None:
        self._tls = None if tls is None else credentials(tls)
        self._has_client_auth = tls is not None and tls.ca is not None
        self._uid = -1 if uid is None else uid
        self._gid = -1 if gid is None else gid
        self._passed = passed or {}
        self._may_be_open = may_be_open
        self._paths: list[Path] = []
        self._relays: list[_Relay] = []

    async def bind(self, server: Any, addresses: Sequence[Address]) -> None:
        """Open all addresses.

        Raises:
            AddressError: one cannot be used.
            ConflictError: another process listens there.
        """
        for address in addresses:
            match address.scheme:
                case "unix":
                    self._bind_unix(server, Path(address.target))
                case "tcp":
                    self._bind_tcp(server, address)
                case _:
                    await self._bind_passed(server, address)

    def _bind_unix(self, server: Any, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        mask = os.umask(_SOCKET_UMASK)
        try:
            bound = server.add_insecure_port(f"unix:{path}")
        except RuntimeError as err:
            raise AddressError(f"cannot listen on unix://{path}: {err}") from err
        finally:
            os.umask(mask)
        if not bound:
            raise AddressError(f"cannot listen on unix://{path}")
        self._paths.append(path)
        if (self._uid, self._gid) != (-1, -1):
            os.chown(path, self._uid, self._gid)
        if self._tls is not None:
            log.warning("TLS is not used on unix://%s", path)

    def _bind_tcp(self, server: Any, address: Address) -> None:
        if not self._has_client_auth and not self._may_be_open:
            raise AddressError(
                f"{address} would let anybody who reaches it run builds",
                hint="give certificates (--tlscert, --tlskey, --tlscacert), or say --insecure-tcp",
            )
        try:
            if self._tls is None:
                log.warning("TLS is not enabled for %s: anybody who reaches it has root", address)
                bound = server.add_insecure_port(address.target)
            else:
                bound = server.add_secure_port(address.target, self._tls)
        except RuntimeError as err:
            raise ConflictError(f"cannot listen on {address}: address in use?") from err
        if not bound:
            raise AddressError(f"cannot listen on {address}")
        log.info("bound %s to port %d", address, bound)

    async def _bind_passed(self, server: Any, address: Address) -> None:
        for listener in pick_listeners(self._passed, address.target):
            relay = _Relay(listener)
            if self._tls is not None and listener.family != socket.AF_UNIX:
                server.add_secure_port(f"unix:{relay.inner}", self._tls)
            else:
                server.add_insecure_port(f"unix:{relay.inner}")
            self._relays.append(relay)

    async def serve(self) -> None:
        """Begin to take what comes to passed sockets; the server must have been started."""
        for relay in self._relays:
            await relay.start()

    async def close(self) -> None:
        """Stop to take connections, remove sockets."""
        for relay in self._relays:
            await relay.close()
        for path in self._paths:
            path.unlink(missing_ok=True)
        self._paths.clear()


def _remove_stale(path: Path) -> None:
    """Remove the socket of a daemon that died."""
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_socket():
        raise AddressError(f"address is taken by something that is no socket: `{path}`")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(os.fspath(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise ConflictError(f"another process listens on unix://{path}")


class _Relay:
    """Joins each connection of a listening socket to one of a private unix socket."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._folder = tempfile.TemporaryDirectory(prefix="toranad-")  # 0700
        self.inner = Path(self._folder.name, "inner.sock")
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._listener.setblocking(False)
        if self._listener.family == socket.AF_UNIX:
            self._server = await asyncio.start_unix_server(self._accept, sock=self._listener)
        else:
            self._server = await asyncio.start_server(self._accept, sock=self._listener)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._folder.cleanup()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            inner_reader, inner_writer = await asyncio.open_unix_connection(self.inner)
        except OSError:
            writer.close()
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, inner_writer))
                group.create_task(_pump(inner_reader, writer))
        except* OSError:
            pass
        finally:
            writer.close()
            inner_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
