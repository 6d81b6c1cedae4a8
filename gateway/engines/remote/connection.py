"""`connect`: a gRPC channel to an address."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio

from torana.core.errors import ToranaError, UsageError
from torana.core.records import dataclass
from torana.gateway.engines.remote.address import (
    TLS,
    Address,
    DockerAddress,
    SocketAddress,
    TCPAddress,
)
from torana.gateway.engines.remote.relay import ConnectionFailedError, Relay
from torana.gateway.protocol import control_pb2 as pb
from torana.gateway.protocol.calls import remote_errors
from torana.gateway.protocol.control_pb2_grpc import ControlStub
from torana.gateway.protocol.limits import CHANNEL

_FIRST_ANSWER_S = 20.0


@dataclass(frozen=True, slots=True)
class Connection:
    """A channel that has answered; `is_docker` says that the daemon is a Docker daemon's."""

    channel: grpc.aio.Channel
    workers: tuple[pb.ListWorkersResponse, ...]
    is_docker: bool


@contextlib.asynccontextmanager
async def connect(address: Address, shown: str) -> AsyncIterator[Connection]:
    """Open a channel, and see that a daemon answers. `shown` is the address in errors.

    Raises:
        ConnectionFailedError: nobody answers, or no BuildKit.
        UsageError: a file of the TLS settings cannot be read.
    """
    async with contextlib.AsyncExitStack() as stack:
        relay = None
        if isinstance(address, SocketAddress):
            target = f"unix:{address.path}"
        elif isinstance(address, TCPAddress):
            target = f"{address.host}:{address.port}"
        else:
            relay = await stack.enter_async_context(Relay.open(address))
            target = f"unix:{relay.path}"
        channel = await stack.enter_async_context(_channel(target, address))
        stub = ControlStub(channel)
        try:
            with remote_errors():
                workers = await stub.ListWorkers(pb.ListWorkersRequest(), timeout=_FIRST_ANSWER_S)
        except ToranaError as err:
            if relay is not None:
                await relay.settled()
            failure = None if relay is None else relay.failure
            text = _reason(err.message) if failure is None else failure.message
            hint = failure.hint if failure is not None else None
            raise ConnectionFailedError(
                f"no answer from {shown}: {text}",
                hint=hint or "is the daemon running, and is this its address?",
            ) from err
        yield Connection(channel, (workers,), isinstance(address, DockerAddress))


def _reason(text: str) -> str:
    """Give what the system said, without what gRPC puts before it."""
    said = text.rpartition("error: ")[2] if "last error: " in text else text
    return said.rpartition("remote host: ")[2].lower() if "remote host: " in said else said


def _channel(target: str, address: Address) -> grpc.aio.Channel:
    tls = address.tls if isinstance(address, TCPAddress) else None
    if tls is None:
        return grpc.aio.insecure_channel(target, options=CHANNEL)
    options = [(key, value) for key, value in CHANNEL if key != "grpc.default_authority"]
    if tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return grpc.aio.secure_channel(target, _credentials(tls), options=options)


def _credentials(tls: TLS) -> grpc.ChannelCredentials:
    def read(path: Path | None) -> bytes | None:
        if path is None:
            return None
        try:
            return path.read_bytes()
        except OSError as err:
            reason = (err.strerror or str(err)).lower()
            raise UsageError(f"TLS: {reason}: `{path}`") from None

    if (tls.certificate is None) != (tls.key is None):
        raise UsageError("TLS: a certificate and its key go together")
    return grpc.ssl_channel_credentials(read(tls.authority), read(tls.key), read(tls.certificate))
