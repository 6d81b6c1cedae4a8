"""Shell patterns of `${name#p}`, `${name%p}` and `${name/p/r}`: `*` and `?`, nothing else.

Spec: expansion reference, section 2.
"""

from __future__ import annotations

import re
from typing import Final

from torana.core.errors import UserError

_TEMPLATE: Final = re.compile(r"\$(?:\$|\{(\w+)\}|(\w+))")


class InvalidPatternError(UserError):
    """A pattern has an escape that means nothing."""

    code = "PATTERN_INVALID"


def remove_prefix(value: str, pattern: str, *, is_longest: bool) -> str:
    """Cut the shortest or longest prefix that matches."""
    return _cut(value, _tokens(pattern), is_longest)


def remove_suffix(value: str, pattern: str, *, is_longest: bool) -> str:
    """Cut the shortest or longest suffix that matches."""
    return _cut(value[::-1], _tokens(pattern)[::-1], is_longest)[::-1]


def replace_matches(value: str, pattern: str, replacement: str, *, is_all: bool) -> str:
    """Replace the first match by `replacement`, or all matches by it as a template."""
    matcher = re.compile("".join(_regex(token, "") for token in _tokens(pattern)))
    if not is_all:
        match = matcher.search(value)
        if match is None:
            return value
        return value[: match.start()] + replacement + value[match.end() :]
    out, end, at = [], 0, 0
    while at <= len(value) and (match := matcher.search(value, at)):
        # An empty match right behind a match is none.
        if match.end() > match.start() or match.start() > end or at == 0:
            out += [value[end : match.start()], _filled(replacement, match[0])]
            end = match.end()
        at = match.end() if match.end() > match.start() else match.end() + 1
    return "".join((*out, value[end:]))


def _filled(template: str, matched: str) -> str:
    """Fill a template of Go's `regexp`: only group 0 exists, other names are empty."""

    def fill(reference: re.Match[str]) -> str:
        name = reference[1] or reference[2]
        if name is None:
            return "$"
        return matched if name == "0" else ""

    return _TEMPLATE.sub(fill, template)


def _cut(value: str, tokens: list[str], is_longest: bool) -> str:
    lazy = "" if is_longest else "?"
    match = re.match("".join(_regex(token, lazy) for token in tokens), value)
    return value if match is None else value[match.end() :]


def _regex(token: str, lazy: str) -> str:
    if token == "*":
        return f".*{lazy}"
    return "." if token == "?" else re.escape(token[-1])


def _tokens(pattern: str) -> list[str]:
    """Split into wildcards and literals; a literal that looks like a wildcard has a backslash."""
    tokens, at = [], 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "\\":
            escaped = pattern[at : at + 1]
            if not escaped or escaped not in "*?\\}/":
                raise InvalidPatternError(
                    f"invalid pattern ({pattern}) in substitution: invalid escape '\\{escaped}'"
                )
            char = f"\\{escaped}"
            at += 1
        tokens.append(char)
    return tokens
