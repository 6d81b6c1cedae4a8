"""The seam between a client that serves and an engine that calls; messages are bytes on both sides.

Spec: docs/design/session.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol, TypeVar

from google.protobuf.message import DecodeError, Message

from torana.core.errors import (
    ConflictError,
    CorruptError,
    NotFoundError,
    ToranaError,
    UnsupportedError,
    UserError,
)
from torana.core.records import dataclass
from torana.gateway.protocol import errors

_CODES: Final = (
    (NotFoundError, errors.NOT_FOUND),
    (ConflictError, errors.ALREADY_EXISTS),
    (UnsupportedError, errors.UNIMPLEMENTED),
    (UserError, errors.INVALID_ARGUMENT),
    (CorruptError, errors.DATA_LOSS),
)

M = TypeVar("M", bound=Message)

Metadata = Sequence[tuple[str, str]]
"""Keys in lower case; a key may come several times."""


class SessionLostError(ToranaError):
    """The client of a build is gone."""

    code = "SESSION_LOST"


class NoSessionError(NotFoundError):
    """No client with this session id is connected."""

    code = "NO_SESSION"


class MethodNotOfferedError(UnsupportedError):
    """The client does not serve this method."""

    code = "METHOD_NOT_OFFERED"


class Stream(Protocol):
    """One end of a call with messages in both directions."""

    async def send(self, message: bytes) -> None:
        """Send a message; several tasks may be in it at once.

        Raises:
            ToranaError: the call is over.
        """
        ...

    async def receive(self) -> bytes | None:
        """Give the next message, None when the peer has sent its last one.

        Raises:
            ToranaError: the call failed.
        """
        ...

    async def end(self) -> None:
        """Say that nothing more will be sent; again it does nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Unary:
    """A handler of calls with one request and one answer."""

    call: Callable[[bytes, Metadata], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Streaming:
    """A handler of streams; returning ends the call with success, raising ends it with a status."""

    call: Callable[[Stream, Metadata], Awaitable[None]]


Handler = Unary | Streaming


class Service(Protocol):
    """Something that a client offers."""

    def methods(self) -> Mapping[str, Handler]:
        """Give the handlers by full method path, `/package.Service/Method`."""
        ...


class Session(Protocol):
    """A client as the engine sees it."""

    @property
    def id(self) -> str: ...

    @property
    def shared_key(self) -> str:
        """What says that two builds have the same local folders; may be empty."""
        ...

    @property
    def is_closed(self) -> bool: ...

    async def closed(self) -> None:
        """Wait until the client is gone."""
        ...

    def supports(self, method: str) -> bool:
        """Say whether the client lists a method; letters count the same in both cases."""
        ...

    async def unary(self, method: str, request: bytes, metadata: Metadata = ()) -> bytes:
        """Call a method with one request and one answer.

        Raises:
            SessionLostError: the client is gone.
            ToranaError: what the client answered.
        """
        ...

    def stream(self, method: str, metadata: Metadata = ()) -> AbstractAsyncContextManager[Stream]:
        """Open a stream; leaving it before its end cancels the call.

        Raises:
            SessionLostError, ToranaError: as above, from the stream.
        """
        ...


async def call(
    session: Session, method: str, request: Message, answer: type[M], metadata: Metadata = ()
) -> M:
    """Make a unary call with messages.

    Raises:
        CorruptError: the answer is no such message.
    """
    return decode(
        answer, await session.unary(method, request.SerializeToString(), metadata), method
    )


def decode(kind: type[M], data: bytes, method: str) -> M:
    """Read a message of a peer.

    Raises:
        CorruptError: it is no such message.
    """
    try:
        return kind.FromString(data)
    except DecodeError as err:
        raise CorruptError(f"malformed {kind.DESCRIPTOR.name} in {method}") from err


def status_code(error: BaseException) -> int | None:
    """Give the gRPC code that services of a session answer with; None for those without meaning."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), None)


def value(metadata: Metadata, key: str, default: str = "") -> str:
    """Give the first value of a key."""
    return next((text for name, text in metadata if name == key), default)
