"""`Relay`: a private socket in front of connections that gRPC cannot open itself.

gRPC dials sockets. For each connection that it dials, one through a program, or one that begins as
HTTP at a Docker daemon, is opened here, and the bytes are passed on in both directions.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from torana.core.errors import ToranaError
from torana.gateway.engines.remote.address import (
    CommandAddress,
    DockerAddress,
    SocketAddress,
    TCPAddress,
)

_CHUNK: Final = 1 << 16
_TIMEOUT_S: Final = 20.0
_LAST_WORDS: Final = 2000  # bytes of a program's messages
_END_S: Final = 2.0


class ConnectionFailedError(ToranaError):
    """A daemon cannot be reached."""

    code = "CONNECTION_FAILED"


class Relay:
    """Opens a connection per connection; `failure` says what went wrong last."""

    def __init__(self, address: CommandAddress | DockerAddress) -> None:
        self._address = address
        self._tasks: set[asyncio.Task[None]] = set()
        self.failure: ConnectionFailedError | None = None
        self.path = ""

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, address: CommandAddress | DockerAddress) -> AsyncIterator[Relay]:
        """Listen while entered; what was opened is closed at the end."""
        relay = cls(address)
        with tempfile.TemporaryDirectory(prefix="torana-") as folder:
            relay.path = str(Path(folder) / "relay.sock")
            server = await asyncio.start_unix_server(relay._accept, relay.path)
            try:
                yield relay
            finally:
                server.close()
                for task in list(relay._tasks):
                    task.cancel()
                if relay._tasks:
                    await asyncio.wait(relay._tasks)
                await server.wait_closed()

    async def settled(self) -> None:
        """Wait a moment for connections that are about to say why they fail."""
        if self._tasks and self.failure is None:
            await asyncio.wait(self._tasks, timeout=_END_S)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if isinstance(self._address, CommandAddress):
                await self._through_command(self._address.argv, reader, writer)
            else:
                await self._through_docker(self._address.at, reader, writer)
        except (ConnectionFailedError, OSError, TimeoutError) as err:
            text = str(err) or "timed out"
            self.failure = (
                err if isinstance(err, ConnectionFailedError) else ConnectionFailedError(text)
            )
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _through_command(
        self, argv: tuple[str, ...], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise ConnectionFailedError(
                f"program not found: `{argv[0]}`", hint=f"install {argv[0]}, or name another --addr"
            ) from None
        assert process.stdin and process.stdout and process.stderr
        words = asyncio.ensure_future(_last_words(process.stderr))
        try:
            await _pass_on(reader, writer, process.stdout, process.stdin)
            await asyncio.wait_for(process.wait(), _END_S)
        except TimeoutError:
            pass
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            code = await process.wait()
            said = (await words).decode(errors="replace").strip()
        if code not in (0, -9):
            raise ConnectionFailedError(f"`{argv[0]}` ended with {code}: {said}")

    async def _through_docker(
        self,
        at: SocketAddress | TCPAddress,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        async with asyncio.timeout(_TIMEOUT_S):
            up_reader, up_writer = await _connect(at)
            try:
                await _upgrade(up_reader, up_writer)
            except BaseException:
                up_writer.close()
                raise
        try:
            await _pass_on(reader, writer, up_reader, up_writer)
        finally:
            up_writer.close()
            with contextlib.suppress(OSError):
                await up_writer.wait_closed()


async def _connect(
    at: SocketAddress | TCPAddress,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(at, SocketAddress):
        try:
            return await asyncio.open_unix_connection(at.path)
        except OSError as err:
            reason = (err.strerror or str(err)).lower()
            raise ConnectionFailedError(
                f"no Docker daemon: {reason}: `{at.path}`", hint="is dockerd running?"
            ) from err
    context: ssl.SSLContext | None = None
    if at.tls is not None:
        context = ssl.create_default_context(cafile=at.tls.authority)
        if at.tls.certificate is not None:
            context.load_cert_chain(at.tls.certificate, at.tls.key)
    name = at.tls.server_name or at.host if at.tls is not None else None
    return await asyncio.open_connection(at.host, at.port, ssl=context, server_hostname=name)


async def _upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ask a Docker daemon to speak gRPC from now on."""
    writer.write(
        b"POST /grpc HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
        b"Content-Length: 0\r\n\r\n"
    )
    await writer.drain()
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as err:
        raise ConnectionFailedError("the Docker daemon's answer is not HTTP") from err
    status = head.split(b"\r\n", 1)[0].decode("latin-1")
    if " 101" not in status:
        raise ConnectionFailedError(
            f"the Docker daemon does not offer BuildKit: {status}", hint="it must be 18.09 or later"
        )


async def _pass_on(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    up_reader: asyncio.StreamReader,
    up_writer: asyncio.StreamWriter,
) -> None:
    """Copy in both directions until the upper end is done; then nothing more can come."""
    down = asyncio.ensure_future(_copy(up_reader, writer))
    up = asyncio.ensure_future(_copy(reader, up_writer))
    try:
        await asyncio.wait([down, up], return_when=asyncio.FIRST_COMPLETED)
        if not down.done():
            # The client has said all it has to say; what is on its way back may still come.
            await asyncio.wait([down], timeout=_END_S)
    finally:
        for task in (down, up):
            task.cancel()
        await asyncio.gather(down, up, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    except (ConnectionError, BrokenPipeError):
        return
    finally:
        with contextlib.suppress(OSError, RuntimeError):
            if writer.can_write_eof():
                writer.write_eof()


async def _last_words(stream: asyncio.StreamReader) -> bytes:
    kept = b""
    while data := await stream.read(_CHUNK):
        kept = (kept + data)[-_LAST_WORDS:]
    return kept
