"""Errors to status and back.

A status keeps everything that came with it: a `RemoteError` has the message as received, details
of unknown types included, and turns into the very same status again when it is passed on. What is a
`ToranaError` here travels with a detail of our own (`code`, `hint`, place), so that it comes out
as the same class at a peer that is Torana; other peers skip that detail.

Spec: BuildKit's `errdefs` and `util/grpcerrors`.
"""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message

from torana.core.errors import (
    BuildFileError,
    ConflictError,
    CorruptError,
    NotFoundError,
    Position,
    SourceExcerpt,
    SourceRange,
    ToranaError,
    UnsupportedError,
    UserError,
)
from torana.core.records import dataclass
from torana.gateway.protocol import (
    details,
    errdefs_pb2,
    gateway_pb2,
    ops_pb2,
    policysession_pb2,
    sourcepolicy_pb2,
)
from torana.gateway.protocol.status_pb2 import Status

OK: Final = 0
CANCELLED: Final = 1
UNKNOWN: Final = 2
INVALID_ARGUMENT: Final = 3
DEADLINE_EXCEEDED: Final = 4
NOT_FOUND: Final = 5
ALREADY_EXISTS: Final = 6
RESOURCE_EXHAUSTED: Final = 8
OUT_OF_RANGE: Final = 11
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
UNAVAILABLE: Final = 14
DATA_LOSS: Final = 15

TORANA_DETAIL: Final = "torana/errors.Error+json"

# BuildKit answers UNKNOWN to nearly everything; clients print the names of other codes.
_CODES: Final = {
    "FRONTEND_CAP_UNSUPPORTED": UNIMPLEMENTED,
    "NO_SUCH_JOB": NOT_FOUND,
}
_CLASSES: Final[dict[int, type[ToranaError]]] = {
    INVALID_ARGUMENT: UserError,
    NOT_FOUND: NotFoundError,
    ALREADY_EXISTS: ConflictError,
    UNIMPLEMENTED: UnsupportedError,
    DATA_LOSS: CorruptError,
}
_FULL: Final = (errno.ENOSPC, errno.ENOMEM, errno.EDQUOT, errno.EMFILE, errno.ENFILE)


class RemoteError(ToranaError):
    """A failure that a peer reported; `status` is what it sent, with all details."""

    code = "REMOTE"

    def __init__(self, status: Status) -> None:
        found = list(details.unpacked(status))
        super().__init__(status.message or "unknown error", sources=tuple(_excerpts(found)))
        self.status = status
        self.details = found  # those of known types

    @property
    def exit_code(self) -> int | None:
        """The exit code of the process that failed, if one did."""
        found = (d.Code for d in self.details if isinstance(d, gateway_pb2.ExitMessage))
        return next(found, None)

    @property
    def vertex(self) -> str | None:
        """The digest of the vertex that failed, if one did."""
        found = (d.digest for d in self.details if isinstance(d, errdefs_pb2.Vertex))
        return next(found, None)


def status_of(error: BaseException, code: int | None = None) -> Status:
    """Give the status of `error`, with all that is known of it; `code` wins over its own code.

    An error that came from a peer keeps its details, also where a local error was raised from it.
    """
    error = _leaf(error)
    chain = list(_chain(error))
    remote = next((part for part in chain if isinstance(part, RemoteError)), None)
    if remote is not None and _only_names(error, remote):
        status = Status()
        status.CopyFrom(remote.status)
    else:
        message = error.message if isinstance(error, ToranaError) else _text(error)
        status = Status(code=_code_of(chain), message=message)
        if remote is not None:
            status.details.extend(remote.status.details)
        present = {(d.type_url, d.value) for d in status.details}
        own = (detail for detail in _own_details(error, chain))
        status.details.extend(d for d in own if (d.type_url, d.value) not in present)
    if code is not None:
        status.code = code
    return status


def error_of(status: Status) -> ToranaError:
    """Give the error that `status` tells of; its `__cause__`, or it itself, is a `RemoteError`."""
    remote = RemoteError(status)
    own = next((d for d in status.details if d.type_url == TORANA_DETAIL), None)
    error = _same_class(own.value, remote) if own is not None else None
    if error is None:
        kind = _CLASSES.get(status.code)
        if kind is None:
            return remote
        error = kind(remote.message, sources=remote.sources)
    error.__cause__ = remote
    return error


def decode_status(data: bytes, code: int, message: str) -> Status:
    """Read the trailer `grpc-status-details-bin`; what cannot be read is just code and text."""
    try:
        status = Status.FromString(data)
    except DecodeError:
        status = Status()
    status.code = code
    status.message = status.message or message
    return status


def _only_names(error: BaseException, remote: RemoteError) -> bool:
    """Tell whether `error` is `remote` or what `error_of` made of it, unchanged."""
    same = isinstance(error, ToranaError) and error.message == remote.message
    return error is remote or (error.__cause__ is remote and same)


def _leaf(error: BaseException) -> BaseException:
    """Give the error that a group of tasks failed with: an expected one before others."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [_leaf(part) for part in error.exceptions]
    return next((leaf for leaf in leaves if isinstance(leaf, ToranaError)), leaves[0])


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__


def _text(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "context canceled"  # as Go spells it; clients look for this text
    if isinstance(error, OSError) and error.strerror:
        name = f": {error.filename}" if isinstance(error.filename, str) else ""
        return f"{error.strerror.lower()}{name}"
    return str(error) or type(error).__name__


def _code_of(chain: list[BaseException]) -> int:
    for part in chain:
        match part:
            case RemoteError():
                return part.status.code
            case ToranaError() if part.code in _CODES:
                return _CODES[part.code]
            case asyncio.CancelledError():
                return CANCELLED
            case TimeoutError():
                return DEADLINE_EXCEEDED
            case OSError() if part.errno in _FULL:
                return RESOURCE_EXHAUSTED
            case OSError() if part.errno == errno.EIO:
                return INTERNAL
    return UNKNOWN


def _own_details(error: BaseException, chain: list[BaseException]) -> Iterator[AnyMessage]:
    known = [part for part in chain if isinstance(part, ToranaError)]
    sources = next((part.sources for part in known if part.sources), ())
    yield from (details.pack(_source(excerpt)) for excerpt in sources)
    for part in known:
        if not isinstance(part, RemoteError):
            yield from (details.pack(message) for message in _typed(part))
            for name, source in part.frontends:
                yield details.pack(errdefs_pb2.Frontend(name=name, source=source))
    if isinstance(error, ToranaError):
        yield AnyMessage(type_url=TORANA_DETAIL, value=_torana_detail(error))


def _typed(error: ToranaError) -> Iterator[Message]:
    """Give BuildKit's detail for errors that have one there; told by their stable codes."""
    fields: Any = error
    match error.code:
        case "SOLVE_FAILED":
            yield errdefs_pb2.Vertex(digest=str(fields.vertex.digest))
            if fields.failed is not None:
                yield errdefs_pb2.Solve(
                    inputIDs=fields.failed.input_ids,
                    mountIDs=fields.failed.mount_ids,
                    op=ops_pb2.Op.FromString(fields.failed.op),
                    description=fields.failed.description,
                )
        case "EXEC_FAILED":
            yield gateway_pb2.ExitMessage(Code=fields.exit_code)
        case "SUBREQUEST_UNSUPPORTED":
            yield errdefs_pb2.Subrequest(name=fields.name)
        case "SOURCE_DENIED" if fields.reasons:
            denied = [policysession_pb2.DenyMessage(message=reason) for reason in fields.reasons]
            yield policysession_pb2.DecisionResponse(
                action=sourcepolicy_pb2.PolicyAction.DENY, denyMessages=denied
            )
        case "FRONTEND_CAP_UNSUPPORTED":
            yield errdefs_pb2.FrontendCap(name=fields.name)


def _torana_detail(error: ToranaError) -> bytes:
    tree: dict[str, Any] = {"code": error.code}
    if error.hint:
        tree["hint"] = error.hint
    at = getattr(error, "at", None)
    if isinstance(at, SourceRange):
        places = (at.start.line, at.start.column, at.end.line, at.end.column)
        tree["at"] = {"filename": at.filename, "places": places}
    return json.dumps(tree).encode()


def _same_class(detail: bytes, remote: RemoteError) -> ToranaError | None:
    try:
        tree = json.loads(detail)
        kind = _class_of(tree["code"])
        hint = tree.get("hint")
        at = _place(tree.get("at"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if kind is None or not isinstance(hint, str | None):
        return None
    if issubclass(kind, BuildFileError):
        return kind(remote.message, at, hint=hint, sources=remote.sources)
    return kind(remote.message, hint=hint, sources=remote.sources)


def _class_of(code: str) -> type[ToranaError] | None:
    """Give the class with this code, or its nearest base that is made of a message alone."""
    pending: list[type[ToranaError]] = [ToranaError]
    while pending:
        kind = pending.pop()
        if kind.__dict__.get("code") == code:
            makers = (ToranaError.__init__, BuildFileError.__init__)
            bases = (base for base in kind.__mro__ if issubclass(base, ToranaError))
            return next((base for base in bases if base.__init__ in makers), None)
        pending.extend(kind.__subclasses__())
    return None


def _place(tree: Any) -> SourceRange | None:
    if tree is None:
        return None
    line, column, end_line, end_column = (int(number) for number in tree["places"])
    start, end = Position(line, column), Position(end_line, end_column)
    return SourceRange(str(tree["filename"]), start, end)


@dataclass(frozen=True, slots=True)
class _Encoded:
    data: bytes

    def encode(self) -> bytes:
        return self.data


def _source(excerpt: SourceExcerpt) -> errdefs_pb2.Source:
    info = ops_pb2.SourceInfo(
        filename=excerpt.filename, data=excerpt.data, language=excerpt.language
    )
    if excerpt.definition is not None:
        info.definition.ParseFromString(excerpt.definition.encode())
    source = errdefs_pb2.Source(info=info)
    for r in excerpt.ranges:
        start = ops_pb2.Position(line=r.start.line, character=r.start.column)
        end = ops_pb2.Position(line=r.end.line, character=r.end.column)
        source.ranges.add(start=start, end=end)
    return source


def _excerpts(found: list[Message]) -> Iterator[SourceExcerpt]:
    for source in found:
        if isinstance(source, errdefs_pb2.Source):
            info = source.info
            place = [(Position(r.start.line, r.start.character), r.end) for r in source.ranges]
            ranges = tuple(
                SourceRange(info.filename, start, Position(end.line, end.character))
                for start, end in place
            )
            encoded = _Encoded(info.definition.SerializeToString())
            yield SourceExcerpt(
                filename=info.filename,
                data=info.data,
                ranges=ranges,
                language=info.language,
                definition=encoded if info.HasField("definition") else None,
            )
