"""Base errors and places in build files.

A user's mistake or the world's failure is a `ToranaError` with a stable `code`; a bug is any other
exception. Errors cross the gateway as status and details and come out as the same class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Place in a text: both count from 1; `column` counts code points, 0 means the whole line."""

    line: int
    column: int = 0


@dataclass(frozen=True, slots=True)
class SourceRange:
    """Span in a build file.

    With columns, `end` is exclusive. With column 0 at both ends the span is whole lines, and the
    line of `end` is included, as in BuildKit's `pb.Range`.
    """

    filename: str
    start: Position
    end: Position

    @classmethod
    def lines(cls, filename: str, first: int, last: int | None = None) -> SourceRange:
        """Give the range of whole lines `first` to `last`, both included."""
        return cls(filename, Position(first), Position(first if last is None else last))

    def __str__(self) -> str:
        column = f":{self.start.column}" if self.start.column else ""
        return f"{self.filename}:{self.start.line}{column}"


class Encodable(Protocol):
    """Something that has a form on the wire."""

    def encode(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class SourceExcerpt:
    """A build file's text with the ranges that an error is about.

    `locations` keeps BuildKit's form: each location is a list of ranges, innermost location first.
    `definition` is the one that loads the file, where that is known.
    """

    filename: str
    data: bytes
    ranges: tuple[SourceRange, ...]
    language: str = ""
    definition: Encodable | None = None


class ToranaError(Exception):
    """Base of all expected failures; the message is lower case without a full stop."""

    code: ClassVar[str] = "FAILED"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        sources: Sequence[SourceExcerpt] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.sources: tuple[SourceExcerpt, ...] = tuple(sources)
        self.frontends: tuple[tuple[str, str], ...] = ()  # that were running: name, image or ""


class UserError(ToranaError):
    """The request or a build file is wrong; trying again without a change is useless."""

    code = "INVALID"


class UsageError(UserError):
    """The command line is wrong: exit code 2."""

    code = "USAGE"


class NotFoundError(ToranaError):
    """A named thing does not exist."""

    code = "NOT_FOUND"


class ConflictError(ToranaError):
    """The thing exists already, or is in use."""

    code = "CONFLICT"


class UnsupportedError(ToranaError):
    """The engine, the machine or this version cannot do what was asked."""

    code = "UNSUPPORTED"


class UnwritableError(ToranaError):
    """A place that was named for writing cannot be written to."""

    code = "UNWRITABLE"

    def __init__(self, place: str, cause: OSError, *, hint: str | None = None) -> None:
        reason = (cause.strerror or str(cause)).lower()
        super().__init__(f"cannot write `{place}`: {reason}", hint=hint)


class CorruptError(ToranaError):
    """Stored or received data does not match its digest or format."""

    code = "CORRUPT"


class BuildFileError(UserError):
    """A build file is wrong at a place; the text shows `file:line:column` first."""

    code = "BUILD_FILE_INVALID"

    def __init__(
        self,
        message: str,
        at: SourceRange | None = None,
        *,
        hint: str | None = None,
        sources: Sequence[SourceExcerpt] = (),
    ) -> None:
        super().__init__(message, hint=hint, sources=sources)
        self.at = at

    def __str__(self) -> str:
        return self.message if self.at is None else f"{self.at}: {self.message}"
