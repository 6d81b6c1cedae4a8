"""`Grammar`: build files read by a lark grammar, with errors in plain words.

Importing this module imports lark.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, Final

import lark
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken
from lark.lexer import PatternStr

from torana.core.errors import BuildFileError, Position, SourceRange
from torana.core.records import dataclass
from torana.frontends.kit.suggest import suggest
from torana.frontends.kit.tree import Place, Tree

_NEWLINE_NAMES: Final = frozenset(("_NL", "NL", "NEWLINE", "_NEWLINE", "EOL", "_EOL"))
_END: Final = "$END"
_WORD: Final = re.compile(r"[\w.-]+|[^\s\w]|\s")
_SHOWN: Final = 8  # expected things that are listed


@dataclass(slots=True)
class Grammar:
    """A compiled grammar; `words` are names of terminals for people, such as `a path`."""

    text: str
    words: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    _lark: lark.Lark = field(init=False)

    def __post_init__(self) -> None:
        self._lark = lark.Lark(
            self.text,
            **{"parser": "lalr", "propagate_positions": True, "maybe_placeholders": False},
            **self.settings,
        )

    def parse(self, text: str, whole: Place) -> Tree:
        """Read a file; `whole` is the place of all of it.

        Raises:
            BuildFileError: it is not of this grammar; says where, and what was expected.
        """
        reading = _Reading(self, text, whole)
        try:
            return reading.tree(self._lark.parse(text))
        except UnexpectedInput as err:
            raise reading.failure(err) from None
        except RecursionError:
            raise BuildFileError("nested too deeply", whole.range) from None

    def accepts(self, text: str) -> Sequence[str]:
        """Give the terminals that may stand after a text, none where that cannot be said."""
        if self._lark.options.parser != "lalr":
            return ()
        try:
            parser = self._lark.parse_interactive(text)
            parser.exhaust_lexer()
        except UnexpectedInput:
            return ()
        return sorted(parser.accepts())  # type: ignore[no-untyped-call]  # lark's

    def word(self, terminal: str) -> str:
        """Give the name of a terminal for people."""
        if terminal in self.words:
            return self.words[terminal]
        if terminal == _END:
            return "the end of the file"
        if terminal in _NEWLINE_NAMES:
            return "the end of the line"
        pattern = next((t.pattern for t in self._lark.terminals if t.name == terminal), None)
        if isinstance(pattern, PatternStr):
            return f"`{pattern.value}`"
        name = terminal.strip("_").lower().replace("_", " ")
        return f"{'an' if name[:1] in 'aeio' else 'a'} {name}"

    def keywords(self, terminals: Iterable[str]) -> list[str]:
        """Give the fixed words among terminals."""
        return [self.word(name).strip("`") for name in terminals if self.word(name)[:1] == "`"]

    def needed(self, terminals: Iterable[str]) -> list[str]:
        """Drop what is ignored between tokens."""
        ignored = set(self._lark.ignore_tokens)
        return [name for name in terminals if name not in ignored]


@dataclass(slots=True)
class _Reading:
    """One file that is read."""

    grammar: Grammar
    text: str
    whole: Place
    _starts: list[int] = field(init=False)  # offsets of lines

    def __post_init__(self) -> None:
        self._starts = [0, *(m.end() for m in re.finditer("\n", self.text))]

    def tree(self, node: lark.Tree[lark.Token]) -> Tree:
        """Give lark's tree with places."""
        children = tuple(
            self._leaf(child) if isinstance(child, lark.Token) else self.tree(child)
            for child in node.children
        )
        if node.meta.empty:
            return Tree(str(node.data), "", self._place(0, 0), children)
        start, end = node.meta.start_pos, node.meta.end_pos
        return Tree(str(node.data), self.text[start:end], self._place(start, end), children)

    def _leaf(self, token: lark.Token) -> Tree:
        start, end = token.start_pos or 0, token.end_pos or 0
        return Tree(token.type, str(token), self._place(start, end))

    def _place(self, start: int, end: int) -> Place:
        # What ends with its line does not reach into the next one.
        while end > start + 1 and self.text[end - 1] == "\n":
            end -= 1
        first, last = self._position(start), self._position(end)
        if last.line > first.line and self.text[start:end] == "\n":
            last = Position(first.line, first.column + 1)
        span = SourceRange(self.whole.range.filename, first, last)
        return Place(self.whole.file, self.whole.info, span, self.whole.within)

    def _position(self, offset: int) -> Position:
        from bisect import bisect_right

        line = bisect_right(self._starts, offset)
        return Position(line, offset - self._starts[line - 1] + 1)

    def failure(self, err: UnexpectedInput) -> BuildFileError:
        start, expected, is_end = self._what(err)
        if not is_end:
            start, expected = self._with_glued(start, expected)
        found = "" if is_end else (_WORD.match(self.text, start) or [""])[0]
        shown = "the end of the file" if is_end else _shown(found)
        expected = self.grammar.needed(expected)
        wanted = sorted({self.grammar.word(name) for name in expected}, key=_rank)
        near = None
        if found.strip():
            near = suggest(found, self.grammar.keywords(expected), ignore_case=True)
        hint = None if near is None else f"did you mean `{near}`?"
        place = self._place(start, start + max(1, len(found.rstrip("\n"))))
        return place.error(f"expected {_either(wanted)}, found {shown}", hint=hint)

    def _with_glued(self, start: int, expected: Sequence[str]) -> tuple[int, Sequence[str]]:
        """Take `runn` for one word, where lark sees the fixed word `run` and then an `n`."""
        word = re.compile(r"\w+").search(self.text, _word_start(self.text, start))
        if word is None or not word.start() < start < word.end():
            return start, expected
        before = self.grammar.accepts(self.text[: word.start()])
        if self.text[word.start() : start] not in self.grammar.keywords(before):
            return start, expected
        return word.start(), before

    def _what(self, err: UnexpectedInput) -> tuple[int, Sequence[str], bool]:
        """Give where, what was expected, and whether the file has ended."""
        match err:
            case UnexpectedToken():
                is_end = err.token.type == _END
                start = len(self.text.rstrip()) if is_end else err.token.start_pos or 0
                return start, sorted(err.accepts or err.expected), is_end
            case UnexpectedCharacters():
                return err.pos_in_stream or 0, sorted(err.allowed or ()), False
            case UnexpectedEOF():
                return len(self.text.rstrip()), sorted(err.expected), True
        return err.pos_in_stream or 0, (), False


def _word_start(text: str, offset: int) -> int:
    while offset and (text[offset - 1].isalnum() or text[offset - 1] == "_"):
        offset -= 1
    return offset


def _shown(found: str) -> str:
    if found == "\n":
        return "the end of the line"
    return "a blank" if found.isspace() else f"`{found}`"


def _rank(word: str) -> tuple[bool, str]:
    return word.startswith("the end"), word


def _either(words: Sequence[str]) -> str:
    if not words:
        return "something else"
    if len(words) > _SHOWN:
        words = [*words[:_SHOWN], "something else"]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
