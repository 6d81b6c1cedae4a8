"""Filters of cache records: `type==exec.cachemount,inuse`.

A filter is selectors joined by commas, all of which must match; of several filters one must. A
selector is a field, which then must be present, or a field, `==`, `!=` or `~=` (a regular
expression that matches somewhere) and a value. Field and value may be quoted; what a pattern
contains may also stand between `/` or `|`.

Spec: reference of the cache, section 2; the grammar is that of containerd's `filters`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from torana.core.errors import UserError

Fields = Callable[[str], "str | None"]
"""Gives the value of a field, None where it is absent."""
Matcher = Callable[[Fields], bool]

_FIELD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_VALUE: Final = re.compile(r"[^\s,=!~]+")
_OPERATOR: Final = re.compile(r"[=!~]+")
_QUOTED: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_PATTERN: Final = re.compile(r"/((?:[^/\\]|\\.)*)/|\|((?:[^|\\]|\\.)*)\|", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "0": "\0"}


class InvalidFilterError(UserError):
    """A filter cannot be understood."""

    code = "FILTER_INVALID"


def parse_filters(filters: Sequence[str]) -> Matcher:
    """Read filters; without any, every record matches, as it does by an empty one.

    Raises:
        InvalidFilterError: syntax, operator or pattern is wrong.
    """
    matchers = [_Parser(text).filter() for text in filters]
    if not matchers:
        return lambda fields: True
    return lambda fields: any(matches(fields) for matches in matchers)


class _Parser:
    """Reads one filter from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0

    def filter(self) -> Matcher:
        if not self._text:
            return lambda fields: True
        selectors = [self._selector()]
        while self._position < len(self._text):
            if self._text[self._position] != ",":
                raise self._error("unexpected input")
            self._position += 1
            selectors.append(self._selector())
        return lambda fields: all(matches(fields) for matches in selectors)

    def _selector(self) -> Matcher:
        field = self._field()
        while self._text.startswith(".", self._position):
            self._position += 1
            field += "." + self._field()
        operator = self._take(_OPERATOR)
        if operator is None:
            return lambda fields: fields(field) is not None
        match operator:
            case "==":
                wanted = self._value()
                return lambda fields: fields(field) == wanted
            case "!=":
                wanted = self._value()
                return lambda fields: (fields(field) or "") != wanted
            case "~=":
                pattern = self._pattern()
                return lambda fields: pattern.search(fields(field) or "") is not None
        raise self._error(f"unsupported operator `{operator}`")

    def _field(self) -> str:
        field = self._quoted() or self._take(_FIELD)
        if field is None:
            raise self._error("expected a field")
        return field

    def _value(self) -> str:
        quoted = self._quoted()
        value = self._take(_VALUE) if quoted is None else quoted
        if value is None:
            raise self._error("expected a value")
        return value

    def _pattern(self) -> re.Pattern[str]:
        found = _PATTERN.match(self._text, self._position)
        if found is not None:
            self._position = found.end()
            text = found[1] if found[1] is not None else found[2]
        else:
            text = self._value()
        try:
            return re.compile(text)
        except re.error as err:
            raise self._error(f"invalid pattern: {err}") from None

    def _quoted(self) -> str | None:
        text = self._take(_QUOTED)
        if text is None:
            return None
        return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), text[1:-1])

    def _take(self, pattern: re.Pattern[str]) -> str | None:
        found = pattern.match(self._text, self._position)
        if found is None:
            return None
        self._position = found.end()
        return found[0]

    def _error(self, problem: str) -> InvalidFilterError:
        return InvalidFilterError(
            f"invalid filter: {problem} at column {self._position + 1}: `{self._text}`",
            hint="for example `type==exec.cachemount` or `id~=^ab,private`",
        )
