"""`Node`: YAML as it was written, with the place of everything.

Scalars stay text; `Scalar.value` reads the few forms that have a type. Nodes are never changed once
loaded, and an alias is the very node that its anchor names. Authors of frontends see them through
`YamlNode`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import field
from typing import Any, Final

from torana.core.errors import BuildFileError, Position, SourceRange
from torana.core.records import dataclass
from torana.frontends.kit.diagnostics import SourceFile

_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,17}")
_CONSTANTS: Final[dict[str, bool | None]] = {
    "": None,
    "~": None,
    "null": None,
    "true": True,
    "false": False,
}
EXPRESSION: Final = "${{"


@dataclass(slots=True, eq=False)
class Mark:
    """Where a node lies; lines and columns count from 1, the end is exclusive."""

    file: SourceFile
    line: int
    column: int
    end_line: int
    end_column: int

    @property
    def range(self) -> SourceRange:
        return SourceRange(
            self.file.filename,
            Position(self.line, self.column),
            Position(self.end_line, self.end_column),
        )

    @property
    def lines(self) -> tuple[SourceRange, ...]:
        """The lines, one range each."""
        return self.file.lines(self.line, self.end_line)

    def error(self, message: str, *, hint: str | None = None) -> BuildFileError:
        """Make the error that points here."""
        at = self.range
        message = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)  # on one line
        return BuildFileError(message, at, hint=hint, sources=(self.file.excerpt((at,)),))


@dataclass(slots=True, eq=False)
class Scalar:
    """A scalar; `is_plain` ones are not quoted."""

    text: str
    mark: Mark
    is_plain: bool = False
    size: int = field(default=1, init=False)
    depth: int = field(default=1, init=False)

    @property
    def value(self) -> str | int | bool | None:
        """The value: plain null, truth values and canonical integers have types."""
        if not self.is_plain:
            return self.text
        if self.text in _CONSTANTS:
            return _CONSTANTS[self.text]
        return int(self.text) if _INTEGER.fullmatch(self.text) else self.text

    @property
    def has_expressions(self) -> bool:
        """Whether there is `${{` in it, with which languages mark what is to be computed."""
        return EXPRESSION in self.text


@dataclass(slots=True, eq=False)
class Items:
    """A sequence; `size` and `depth` count what aliases stand for, too."""

    items: list[Node]
    mark: Mark
    size: int = 1
    depth: int = 1
    has_expressions: bool = False

    def __iter__(self) -> Iterator[Node]:
        return iter(self.items)


@dataclass(slots=True, eq=False)
class Entry:
    """A key with its value."""

    key: Scalar
    node: Node


@dataclass(slots=True, eq=False)
class Table:
    """A mapping by the text of its keys, merge keys already merged."""

    entries: dict[str, Entry]
    mark: Mark
    size: int = 1
    depth: int = 1
    has_expressions: bool = False

    def get(self, name: str) -> Node | None:
        """Give a value; None where there is no such key, or where it is null."""
        entry = self.entries.get(name)
        if entry is None or (isinstance(entry.node, Scalar) and entry.node.value is None):
            return None
        return entry.node

    def key(self, name: str) -> Mark:
        """Give the place of a key, of the whole mapping if there is none."""
        entry = self.entries.get(name)
        return self.mark if entry is None else entry.key.mark

    def __contains__(self, name: object) -> bool:
        return name in self.entries


Node = Scalar | Items | Table


def plain(node: Node) -> Any:
    """Give a node as JSON would have it."""
    match node:
        case Scalar():
            return node.value
        case Items():
            return [plain(item) for item in node.items]
        case Table():
            return {name: plain(entry.node) for name, entry in node.entries.items()}
