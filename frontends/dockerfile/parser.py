"""From the text of a Dockerfile to `Node`s: one per instruction, not checked yet.

The text is walked line by line; directives come first, continued lines are joined, comments are
dropped (and remembered for the instruction that follows), heredocs are read to their end.

Spec: syntax reference, sections 1 to 6.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from torana.core.errors import BuildFileError, SourceRange
from torana.core.records import dataclass
from torana.frontends.dockerfile.arguments_syntax import (
    parse_array,
    parse_pairs,
    split_flags,
    split_words,
)
from torana.frontends.dockerfile.heredoc import Heredoc, find_heredocs
from torana.frontends.dockerfile.spaces import BLANKS, SPACES, split_blanks
from torana.frontends.kit.diagnostics import line_ranges

MAX_LINE: Final = 65535  # bytes
_DIRECTIVE: Final = re.compile(r"#[ \t\f\v\r]*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$")
_DIRECTIVES: Final = frozenset(("escape", "syntax", "check"))
_HEREDOC_USERS: Final = frozenset(("add", "copy", "run"))


@dataclass(frozen=True, slots=True)
class Node:
    """One instruction as written.

    `args` of ENV and LABEL hold three texts a pair: name, value, and `=` or nothing. `child` is the
    instruction behind ONBUILD.
    """

    word: str
    original: str
    flags: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    is_array: bool = False
    first: int = 1
    last: int = 1
    comments: tuple[str, ...] = ()
    heredocs: tuple[Heredoc, ...] = ()
    child: Node | None = None
    source_ranges: tuple[SourceRange, ...] | None = None  # where another place stands for it

    @property
    def name(self) -> str:
        """The word in lower case."""
        return self.word.lower()

    def ranges(self, filename: str) -> tuple[SourceRange, ...]:
        if self.source_ranges is not None:
            return self.source_ranges
        return line_ranges(filename, self.first, self.last)


@dataclass(frozen=True, slots=True)
class EmptyContinuation:
    """A blank line inside a continued instruction that ends at `line`."""

    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Tree:
    """All instructions of a file; `escape` is its escape character."""

    nodes: tuple[Node, ...]
    escape: str
    empty_continuations: tuple[EmptyContinuation, ...] = ()


def parse(data: bytes, filename: str = "Dockerfile") -> Tree:
    """Read a file.

    Raises:
        BuildFileError: the text is malformed; `at` spans the lines read so far of the instruction.
    """
    if not data:
        raise BuildFileError("the Dockerfile cannot be empty")
    return _Parser(data, filename).run()


class LocatedError(BuildFileError):
    """A malformed text with all lines of its instruction."""

    def __init__(self, message: str, ranges: tuple[SourceRange, ...]) -> None:
        super().__init__(message, ranges[0] if ranges else None)
        self.ranges = ranges


class _Parser:
    def __init__(self, data: bytes, filename: str) -> None:
        text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
        self.lines = text.split("\n")
        if not self.lines[-1]:
            self.lines.pop()
        self.filename = filename
        self.at = 0  # lines read
        self.escape = "\\"
        self.in_directives = True
        self.seen: set[str] = set()
        self.empty: list[EmptyContinuation] = []

    def run(self) -> Tree:
        nodes: list[Node] = []
        comments: list[str] = []
        while self.at < len(self.lines):
            raw = self._read()
            line = raw.rstrip("\r").lstrip(SPACES)
            if self._directive(line):
                continue
            if line.startswith("#"):
                text = raw[1:].strip(SPACES)
                comments = [*comments, text] if text else []
                continue
            line, is_open = self._continued(line)
            if not line and not is_open:
                continue
            nodes.append(self._instruction(line, is_open, tuple(comments)))
            comments = []
        if not nodes:
            raise self._error("file with no instructions", max(self.at, 1))
        return Tree(tuple(nodes), self.escape, tuple(self.empty))

    def _read(self) -> str:
        line = self.lines[self.at]
        if len(line) > MAX_LINE // 4 and len(line.encode("utf-8", "surrogateescape")) > MAX_LINE:
            raise self._error(
                f"dockerfile line greater than max allowed size of {MAX_LINE}", self.at
            )
        self.at += 1
        return line

    def _error(self, message: str, first: int, last: int | None = None) -> LocatedError:
        return LocatedError(message, line_ranges(self.filename, first, last))

    def _directive(self, line: str) -> bool:
        """Take a directive, as long as nothing else was read."""
        if not self.in_directives:
            return False
        match = _DIRECTIVE.match(line)
        name = match[1].lower() if match else ""
        if match is None or name not in _DIRECTIVES:
            self.in_directives = False
            return False
        if name in self.seen:
            # The original counts these lines from 0.
            raise self._error(f"only one {name} parser directive can be used", self.at - 1)
        self.seen.add(name)
        if name == "escape":
            if match[2] not in ("\\", "`"):
                raise self._error(
                    f"invalid escape token '{match[2]}' does not match ` or \\", self.at - 1
                )
            self.escape = match[2]
        return True

    def _continued(self, line: str) -> tuple[str, bool]:
        """Cut a continuation off; says whether there was one."""
        body = line.rstrip(" \t")
        if not body.endswith(self.escape) or body[-2:-1] == self.escape:
            return line, False
        return body[:-1], True

    def _instruction(self, line: str, is_open: bool, comments: tuple[str, ...]) -> Node:
        first = self.at
        parts = [line]
        has_empty = False
        while is_open and self.at < len(self.lines):
            raw = self._read().rstrip("\r")
            stripped = raw.lstrip(SPACES)
            if stripped.startswith("#"):
                continue
            if not stripped:
                has_empty = True
                continue
            part, is_open = self._continued(raw)
            parts.append(part)
        text = "".join(parts)
        if has_empty:
            self.empty.append(EmptyContinuation(text, self.at))
        try:
            node = parse_node(text, self.escape, first=first, last=self.at, comments=comments)
        except BuildFileError as err:
            raise self._error(err.message, first, self.at) from err
        if _takes_heredocs(node) and (found := find_heredocs(text)):
            heredocs = tuple(self._body(heredoc, first) for heredoc in found)
            return replace(node, heredocs=heredocs, last=self.at)
        return node

    def _body(self, heredoc: Heredoc, first: int) -> Heredoc:
        start = self.at
        while self.at < len(self.lines):
            line = self._read().rstrip("\r")
            if (line.lstrip("\t") if heredoc.chomp else line) == heredoc.name:
                body = self.lines[start : self.at - 1]
                return replace(heredoc, content="".join(f"{text}\n" for text in body))
        raise self._error("unterminated heredoc", first, self.at)


def _takes_heredocs(node: Node) -> bool:
    if node.name == "onbuild" and node.child is not None:
        node = node.child
    return node.name in _HEREDOC_USERS and not node.is_array


def parse_node(
    text: str, escape: str, *, first: int = 1, last: int = 1, comments: tuple[str, ...] = ()
) -> Node:
    """Split the joined text of one instruction that spans the lines `first` to `last`.

    Raises:
        BuildFileError: its arguments are malformed; without a place.
    """
    word, *tail = BLANKS.split(text.strip(SPACES), maxsplit=1)
    flags, rest = split_flags(tail[0]) if tail else ((), "")
    rest = rest.strip(SPACES)
    name = word.lower()
    child = None
    if name == "onbuild":
        child = parse_node(rest, escape) if rest else None
        arguments: Arguments = ((), False)
    elif name in ("env", "label"):
        pairs = parse_pairs(rest, word.upper(), escape)
        arguments = tuple(part for pair in pairs for part in pair), False
    else:
        arguments = _KINDS.get(name, _unknown)(rest, escape)
    args, is_array = arguments
    return Node(word, text, flags, args, is_array, first, last, comments, child=child)


Arguments = tuple[tuple[str, ...], bool]  # and whether they are an array
Kind = Callable[[str, str], Arguments]


def _unknown(rest: str, escape: str) -> Arguments:
    return ("",), False  # refused later; what follows the word is not looked at


def _string(rest: str, escape: str) -> Arguments:
    return (rest,) if rest else (), False


def _list(rest: str, escape: str) -> Arguments:
    return tuple(split_blanks(rest)), False


def _array_or_string(rest: str, escape: str) -> Arguments:
    array = parse_array(rest)
    return _string(rest, escape) if array is None else (tuple(array), True)


def _array_or_list(rest: str, escape: str) -> Arguments:
    array = parse_array(rest)
    return _list(rest, escape) if array is None else (tuple(array), True)


def _words(rest: str, escape: str) -> Arguments:
    return tuple(split_words(rest, escape)), False


def _health(rest: str, escape: str) -> Arguments:
    if not rest:
        return (), False
    kind, command = rest, ""
    for index, char in enumerate(rest):
        if char in SPACES:
            kind, command = rest[:index], rest[index:].strip(SPACES)
            break
    args, is_array = _array_or_string(command, escape)
    return (kind, *args), is_array


_KINDS: Final[dict[str, Kind]] = {
    "add": _array_or_list,
    "arg": _words,
    "cmd": _array_or_string,
    "copy": _array_or_list,
    "entrypoint": _array_or_string,
    "expose": _list,
    "from": _list,
    "healthcheck": _health,
    "maintainer": _string,
    "run": _array_or_string,
    "shell": _array_or_string,
    "stopsignal": _string,
    "user": _string,
    "volume": _array_or_list,
    "workdir": _string,
}
