"""`Expander`: variables, quotes and escapes in a word of a Dockerfile.

One scan from left to right, as a recursive descent: a word inside `${...}` follows the same rules
up to its closing brace. Values are never scanned again.

Spec: expansion reference, sections 1 and 2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import field
from functools import lru_cache
from typing import Final

from torana.core.errors import BuildFileError
from torana.core.records import dataclass
from torana.frontends.dockerfile.patterns import (
    InvalidPatternError,
    remove_prefix,
    remove_suffix,
    replace_matches,
)
from torana.frontends.dockerfile.quoting import go_quote
from torana.frontends.dockerfile.spaces import ANY_SPACES

_SPECIAL: Final = frozenset("@*#?-$!0")
_END: Final = ""
_QUOTES: Final = "'\""
_ASCII_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?![^\x00-\x7f])")


class ExpansionError(BuildFileError):
    """A word cannot be expanded; `unmatched` are the names without a value up to there."""

    code = "EXPANSION"
    unmatched: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Expansion:
    """An expanded word; names are in order of first use."""

    text: str
    words: tuple[str, ...]
    matched: tuple[str, ...] = ()
    unmatched: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Expander:
    """Expands words; `escape` is the escape character of the file."""

    escape: str = "\\"

    def is_active_in(self, text: str) -> bool:
        """Whether expanding could change `text`; most words are plain."""
        return "$" in text or '"' in text or "'" in text or self.escape in text

    def expand(
        self,
        text: str,
        env: Mapping[str, str],
        *,
        raw_quotes: bool = False,
        raw_escapes: bool = False,
        skip_unset: bool = False,
        skip_quotes: bool = False,
    ) -> Expansion:
        """Expand `text`.

        Args:
            text: what is written in the file.
            env: values by name.
            raw_quotes: keep quote characters in the result.
            raw_escapes: keep escape characters in the result.
            skip_unset: leave variables without a value as they are written.
            skip_quotes: quotes are ordinary characters.

        Raises:
            ExpansionError: a quote, a brace or a modifier is wrong, or a `?` form asked for it.
        """
        if not (self.is_active_in(text) or "<<" in text):
            return Expansion(text, tuple(filter(None, ANY_SPACES.split(text))))
        scan = _Scan(text, env, self.escape, raw_quotes, raw_escapes, skip_unset, not skip_quotes)
        try:
            words = _Words()
            result = scan.until(_END, raw_escapes, words)
        except (ExpansionError, InvalidPatternError) as err:
            failure = ExpansionError(f"failed to process {go_quote(text)}: {err.message}")
            failure.unmatched = tuple(scan.unmatched)
            raise failure from err
        except RecursionError:
            raise ExpansionError(
                f"failed to process {go_quote(text)}: substitutions are nested too deeply"
            ) from None
        return Expansion(result, words.finish(), tuple(scan.matched), tuple(scan.unmatched))

    def expand_body(self, text: str, env: Mapping[str, str]) -> Expansion:
        """Expand the body of a heredoc; the escape character is always the backslash there."""
        return Expander().expand(text, env, skip_quotes=True)


@dataclass(slots=True)
class _Words:
    """Splits the result at white space that came neither quoted nor escaped."""

    done: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        first, *others = ANY_SPACES.split(text)
        self.open.append(first)
        for word in others:
            self._close()
            self.open.append(word)

    def add_raw(self, text: str) -> None:
        self.open.append(text)

    def _close(self) -> None:
        if word := "".join(self.open):
            self.done.append(word)
        self.open.clear()

    def finish(self) -> tuple[str, ...]:
        self._close()
        return tuple(self.done)


class _Scan:
    """The scan of one text."""

    def __init__(
        self,
        text: str,
        env: Mapping[str, str],
        escape: str,
        raw_quotes: bool,
        raw_escapes: bool,
        skip_unset: bool,
        has_quotes: bool,
    ) -> None:
        self.text = text
        self.at = 0
        self.env = env
        self.escape = escape
        self.raw_quotes = raw_quotes
        self.raw_escapes = raw_escapes
        self.skip_unset = skip_unset
        self.matched: dict[str, None] = {}
        self.unmatched: dict[str, None] = {}
        self.special = _SPECIAL_AND_QUOTES if has_quotes else _ALWAYS_SPECIAL
        self.plain = _plain(escape, has_quotes)

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _next(self) -> str:
        char = self.text[self.at : self.at + 1]
        self.at += len(char)
        return char

    def until(self, stop: str, raw_escapes: bool, words: _Words | None = None) -> str:
        """Scan up to and over `stop`; the empty stop is the end of the text."""
        outer, self.raw_escapes = self.raw_escapes, raw_escapes
        out: list[str] = []
        words = words or _Words()
        try:
            while (char := self._peek()) and char != stop:
                if match := self.plain.match(self.text, self.at):
                    piece = match[0]
                    if stop and (end := piece.find(stop)) >= 0:
                        piece = piece[:end]
                    self.at += len(piece)
                    words.add(piece)
                elif handler := self.special.get(char):
                    piece = handler(self)
                    (words.add if char == "$" else words.add_raw)(piece)
                else:
                    self.at += 1
                    piece = (char if raw_escapes else "") + self._next()
                    words.add_raw(piece)
                out.append(piece)
        finally:
            self.raw_escapes = outer
        if self._next() != stop:
            raise ExpansionError(f"unexpected end of statement while looking for matching {stop}")
        return "".join(out)

    def _less(self) -> str:
        """`<<`, perhaps with `-`, keeps the blanks behind it in the word."""
        start = self.at
        self.at += 1
        if self._peek() == "<":
            self.at += 1
            if self._peek() == "-":
                self.at += 1
            while self._peek() in ("\t", "\r", " "):
                self.at += 1
        return self.text[start : self.at]

    def _single_quoted(self) -> str:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            self.at = len(self.text)
            raise ExpansionError(
                "unexpected end of statement while looking for matching single-quote"
            )
        start, self.at = self.at, end + 1
        return self.text[start : end + 1] if self.raw_quotes else self.text[start + 1 : end]

    def _double_quoted(self) -> str:
        out = ['"'] if self.raw_quotes else []
        self.at += 1
        while char := self._peek():
            if match := self.plain.match(self.text, self.at):
                out.append(match[0])
                self.at = match.end()
                continue
            if char == "$":
                out.append(self._dollar())
                continue
            self.at += 1
            if char == '"':
                out += [char] if self.raw_quotes else []
                return "".join(out)
            if char == self.escape:
                following = self._peek()
                if not following:
                    break
                if following in ('"', "$", self.escape):
                    out += [char] if self.raw_escapes else []
                    char = self._next()
            out.append(char)
        raise ExpansionError("unexpected end of statement while looking for matching double-quote")

    def _dollar(self) -> str:
        self.at += 1
        if self._peek() == "{":
            self.at += 1
            return self._braced()
        name = self._name()
        if not name:
            return "$"
        value = self._value(name)
        if value is None:
            return f"${name}" if self.skip_unset else ""
        return value

    def _name(self) -> str:
        if match := _ASCII_NAME.match(self.text, self.at):
            self.at = match.end()
            return match[0]
        start = self.at
        first = self._peek()
        if first.isdecimal():
            while self._peek().isdecimal():
                self.at += 1
        elif first in _SPECIAL and first:
            self.at += 1
        else:
            while (char := self._peek()) and (char == "_" or _is_word(char)):
                self.at += 1
        return self.text[start : self.at]

    def _value(self, name: str) -> str | None:
        value = self.env.get(name)
        (self.unmatched if value is None else self.matched)[name] = None
        return value

    def _braced(self) -> str:
        first = self._peek()
        if not first:
            raise ExpansionError("syntax error: missing '}'")
        if first in "{}:":
            raise ExpansionError("syntax error: bad substitution")
        name = self._name()
        modifier = self._next()
        if modifier == "}":
            value = self._value(name)
            if value is None:
                return f"${{{name}}}" if self.skip_unset else ""
            return value
        if modifier == "/":
            return self._replaced(name)
        is_strict = modifier == ":"
        kind = self._next() if is_strict else modifier
        shown = ":" + (kind or "\ufffd") if is_strict else (kind or "\ufffd")
        unsupported = ExpansionError(f"unsupported modifier ({shown}) in substitution")
        is_known = kind in (("-", "+", "?") if is_strict else ("-", "+", "?", "#", "%"))
        if not is_known and (not is_strict or kind in ("#", "%")):
            raise unsupported
        word = self._part("}", "syntax error: missing '}'", raw_escapes=kind in ("#", "%"))
        value = self._value(name)
        if value is None and self.skip_unset:
            return f"${{{name}{shown}{word}}}"
        if not is_known:
            raise unsupported
        return _modified(kind, name, value, word, is_strict=is_strict)

    def _part(self, stop: str, missing: str, *, raw_escapes: bool) -> str:
        try:
            return self.until(stop, raw_escapes)
        except ExpansionError as err:
            if not self._peek():
                raise ExpansionError(missing) from err
            raise

    def _replaced(self, name: str) -> str:
        is_all = self._peek() == "/"
        self.at += is_all
        pattern = self._part("/", "syntax error: missing '/' in ${}", raw_escapes=True)
        replacement = self._part("}", "syntax error: missing '}'", raw_escapes=True)
        value = self._value(name)
        if value is None and self.skip_unset:
            return f"${{{name}/{pattern}/{replacement}}}"
        return replace_matches(value or "", pattern, replacement, is_all=is_all)


_ALWAYS_SPECIAL: Final[dict[str, Callable[[_Scan], str]]] = {
    "$": _Scan._dollar,
    "<": _Scan._less,
}
_SPECIAL_AND_QUOTES: Final = {
    **_ALWAYS_SPECIAL,
    "'": _Scan._single_quoted,
    '"': _Scan._double_quoted,
}


@lru_cache(maxsize=4)
def _plain(escape: str, has_quotes: bool) -> re.Pattern[str]:
    """Match as many characters as stand for themselves, whatever is around them."""
    return re.compile(f"[^$<{re.escape(escape)}{_QUOTES if has_quotes else ''}]+")


def _modified(kind: str, name: str, value: str | None, word: str, *, is_strict: bool) -> str:
    is_missing = value is None or (is_strict and not value)
    match kind:
        case "-":
            return word if value is None or is_missing else value
        case "+":
            return "" if is_missing else word
        case "?":
            if value is None or is_missing:
                state = "unset" if value is None else "empty"
                raise ExpansionError(f"{name}: {word or f'is not allowed to be {state}'}")
            return value
    is_longest = word.startswith(kind)
    remove = remove_prefix if kind == "#" else remove_suffix
    return remove(value or "", word[1:] if is_longest else word, is_longest=is_longest)


def _is_word(char: str) -> bool:
    return char.isalpha() or char.isdecimal()
