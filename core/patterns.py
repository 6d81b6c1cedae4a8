"""`PatternMatcher`: include and exclude patterns in the syntax of `.dockerignore`.

Patterns are tried in order with a state that starts as "not matched"; a plain one is tried only
while not matched, one with `!` only while matched, and each hit flips the state. A pattern that
matches a folder matches all below it.

Most patterns are a literal, a prefix or a suffix, and are tested without `re`; the others are
compiled when they are first tried.

Spec: conversion reference, section 4.2; contenthash reference, section 7.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence
from typing import Final

from torana.core.errors import UserError

_SPECIAL: Final = frozenset(".+()|{}$")
_WILD: Final = frozenset("*?[\\")

Test = Callable[[str], bool]
State = tuple[bool, ...]


class InvalidPatternError(UserError):
    """A pattern is malformed."""

    code = "PATTERN_INVALID"


class PatternMatcher:
    """Compiled patterns. Paths are relative, `/`-separated, without a leading slash."""

    __slots__ = ("_patterns", "has_exclusions")

    def __init__(self, patterns: Sequence[str]) -> None:
        """Check patterns.

        Raises:
            InvalidPatternError: a lone `!`, or malformed brackets or escapes.
        """
        self._patterns: list[tuple[bool, str, Test]] = []
        for raw in patterns:
            text = raw.strip()
            if not text:
                continue
            is_exclusion = text.startswith("!")
            if is_exclusion:
                text = text[1:].strip()
                if not text:
                    raise InvalidPatternError('illegal exclusion pattern: "!"')
            text = posixpath.normpath(text)
            if text.startswith("//"):
                text = text[1:]
            self._patterns.append((is_exclusion, text, _compile(text)))
        self.has_exclusions = any(is_exclusion for is_exclusion, _, _ in self._patterns)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def matches(self, path: str) -> bool:
        """Say whether `path` or, by one of its parents, an enclosing folder is matched."""
        return self.matches_below(path, None)[0]

    def matches_below(self, path: str, parent: State | None) -> tuple[bool, State]:
        """Match in a walk: `parent` is what this gave for the enclosing folder (None at the top).

        Gives whether `path` is matched, and the state for what lies below it. A pattern that was
        not tried counts as no match for what lies below, even where it would match the folder:
        of `a`, `!a/x`, `a` the last one is not tried on `a`, and so `a/x` is not matched. Without
        a state all patterns are tried on the enclosing folders, too, and `a/x` is.
        """
        parents: list[str] | None = None
        matched = False
        hits: list[bool] = []
        for position, (is_exclusion, _, test) in enumerate(self._patterns):
            hit = parent is not None and parent[position]
            if not hit and is_exclusion == matched:
                hit = test(path)
                if not hit and parent is None:
                    if parents is None:
                        parents = _parents(path)
                    hit = any(map(test, parents))
            hits.append(hit)
            if hit:
                matched = not is_exclusion
        return matched, tuple(hits)

    def could_match_below(self, folder: str) -> bool:
        """Say whether a `!` pattern might match something in an excluded folder."""
        return self.has_exclusions and any(
            is_exclusion and _reaches(pattern, folder)
            for is_exclusion, pattern, _ in self._patterns
        )

    def could_start_below(self, folder: str) -> bool:
        """Say whether a plain pattern might match something in a folder that is not matched."""
        return any(
            not is_exclusion and _reaches(pattern, folder)
            for is_exclusion, pattern, _ in self._patterns
        )

    def literals(self) -> frozenset[str] | None:
        """Give the patterns as plain paths where all are that, else None."""
        if self.has_exclusions or any(_WILD & set(p) for _, p, _ in self._patterns):
            return None
        return frozenset(pattern for _, pattern, _ in self._patterns)


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _reaches(pattern: str, folder: str) -> bool:
    """Say whether a pattern could match at or below `folder`: by its literal start."""
    literal: list[str] = []
    parts = pattern.split("/")
    for part in parts:
        if _WILD & set(part):
            # `a**` crosses folders: what stands before the stars says nothing of whole components.
            break
        literal.append(part)
    start = "/".join(literal)
    if len(literal) < len(parts) and not start:
        return True
    return _is_related(start, folder)


def _is_related(one: str, other: str) -> bool:
    return one == other or one.startswith(other + "/") or other.startswith(one + "/")


def _compile(pattern: str) -> Test:
    if not _WILD & set(pattern):
        return pattern.__eq__
    _check(pattern)
    if pattern == "**":
        return lambda path: True
    if pattern.endswith("/**") and not _WILD & set(pattern[:-3]):
        start = pattern[:-2]
        return lambda path: path.startswith(start)
    if pattern.startswith("**") and not _WILD & set(pattern[2:]):
        return _suffix(pattern[2:])
    return _one_star(pattern) or _Expression(pattern)


def _suffix(rest: str) -> Test:
    """`**/foo` and `**foo`: the literal end of a path."""
    if rest.startswith("/"):
        name = rest[1:]
        return lambda path: path == name or path.endswith(rest)
    return lambda path: path.endswith(rest)


def _one_star(pattern: str) -> Test | None:
    """`dir/pre*post` and `**/pre*post`: one star in the last component; None for all others."""
    above, slash, last = pattern.rpartition("/")
    start, star, end = last.partition("*")
    # A `^` is an anchor in patterns with wildcards: left to expressions.
    if not star or _WILD & set(start + end) or "^" in pattern:
        return None
    shortest = len(start) + len(end)
    if above == "**":

        def anywhere(path: str) -> bool:
            name = path[path.rfind("/") + 1 :]
            return len(name) >= shortest and name.startswith(start) and name.endswith(end)

        return anywhere
    if _WILD & set(above):
        return None
    prefix = above + slash + start
    length = len(prefix)

    def here(path: str) -> bool:
        return (
            path.startswith(prefix)
            and path.endswith(end)
            and len(path) >= length + len(end)
            and path.find("/", length) < 0
        )

    return here


def _check(pattern: str) -> None:
    """Refuse malformed brackets and escapes."""
    position, size = 0, len(pattern)
    while position < size:
        char = pattern[position]
        position += 1
        if char == "\\":
            if position == size:
                raise InvalidPatternError("syntax error in pattern")
            position += 1
        elif char == "[":
            position = _check_class(pattern, position)


def _check_class(pattern: str, position: int) -> int:
    size = len(pattern)
    if position < size and pattern[position] == "^":
        position += 1
    count = 0
    while True:
        if position < size and pattern[position] == "]" and count:
            return position + 1
        position = _class_char(pattern, position)
        if position < size and pattern[position] == "-":
            position = _class_char(pattern, position + 1)
        count += 1


def _class_char(pattern: str, position: int) -> int:
    size = len(pattern)
    if position >= size or pattern[position] in "-]":
        raise InvalidPatternError("syntax error in pattern")
    if pattern[position] == "\\":
        position += 1
        if position >= size:
            raise InvalidPatternError("syntax error in pattern")
    if position + 1 >= size:
        raise InvalidPatternError("syntax error in pattern")
    return position + 1


class _Expression:
    """A pattern as a regular expression; compiled at once only where it might be refused."""

    __slots__ = ("_match", "_pattern")

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._match: Callable[[str], object] | None = None
        if "[" in pattern or "\\" in pattern:
            self._match = _regex(pattern)

    def __call__(self, path: str) -> bool:
        if self._match is None:
            self._match = _regex(self._pattern)
        return self._match(path) is not None


def _regex(pattern: str) -> Callable[[str], object]:
    import re

    out = ["^"]
    position, size = 0, len(pattern)
    while position < size:
        char = pattern[position]
        position += 1
        if char == "*":
            if position < size and pattern[position] == "*":
                position += 1
                if position < size and pattern[position] == "/":
                    position += 1
                out.append(".*" if position == size else "(?:.*/)?")
            else:
                out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char in _SPECIAL:
            out.append("\\" + char)
        elif char == "\\":
            if position < size:
                # The original hands `\\a` and the like to its regular expressions: a bell.
                escaped = pattern[position]
                is_word = escaped.isascii() and escaped.isalnum()
                out.append("\\" + escaped if is_word else re.escape(escaped))
                position += 1
        elif char == "[":
            end = _class_end(pattern, position)
            out.append(_class(pattern[position:end]))
            position = end + 1
        elif char == "^":
            out.append("^")
        else:
            out.append(re.escape(char))
    try:
        compiled = re.compile("".join(out) + r"\Z", re.DOTALL)
    except re.error:
        raise InvalidPatternError("syntax error in pattern") from None
    return compiled.match


def _class_end(pattern: str, position: int) -> int:
    start = position
    if pattern[position] == "^":
        position += 1
        start = position
    while pattern[position] != "]" or position == start:
        position += 2 if pattern[position] == "\\" else 1
    return position


def _class(body: str) -> str:
    """Give a character class for `re`, which reads some characters in them differently."""
    negated = body.startswith("^")
    inner = body[1:] if negated else body
    return f"[{'^' if negated else ''}{inner.replace('[', chr(92) + '[')}]"
