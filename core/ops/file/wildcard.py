"""Shell patterns for paths: `*`, `?`, `[...]` within a component, `\\` escapes; no `**`.

Spec: Go's `filepath.Match`, split at the first component that has a wildcard.
"""

from __future__ import annotations

import re
from functools import lru_cache

from torana.core.errors import UserError


class InvalidPatternError(UserError):
    """A wildcard pattern is malformed."""

    code = "PATTERN_INVALID"


def has_wildcard(path: str) -> bool:
    """Tell whether `path` has an unescaped wildcard character."""
    escaped = False
    for char in path:
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char in "*?[":
            return True
    return False


def split_wildcard(path: str) -> tuple[str, str]:
    """Split into the leading components, taken literally, and the rest, which may be empty."""
    parts = path.split("/")
    for i, part in enumerate(parts):
        if has_wildcard(part):
            return "/".join(parts[:i]), "/".join(parts[i:])
    return path, ""


@lru_cache(maxsize=256)
def component_patterns(pattern: str) -> tuple[re.Pattern[bytes], ...]:
    """Compile `pattern` to one expression per component.

    Raises:
        InvalidPatternError: an unclosed class or a lone escape.
    """
    return tuple(re.compile(_translate(part), re.DOTALL) for part in pattern.split("/"))


def _translate(part: str) -> bytes:
    out: list[str] = []
    i = 0
    while i < len(part):
        char = part[i]
        i += 1
        if char == "*":
            out.append(".*")
        elif char == "?":
            # One code point, whatever its length in UTF-8; a lone byte where it is not UTF-8.
            out.append("(?:[\x00-\x7f]|[\xc2-\xf4][\x80-\xbf]+|[\x80-\xff])")
        elif char == "[":
            text, i = _class(part, i)
            out.append(text)
        elif char == "\\":
            if i == len(part):
                raise InvalidPatternError(f"syntax error in pattern: `{part}`")
            out.append(_literal(part[i]))
            i += 1
        else:
            out.append(_literal(char))
    return "".join(out).encode("latin-1")


def _class(part: str, i: int) -> tuple[str, int]:
    """Read a class after its bracket: alternatives of bytes, so that any code point works."""
    negated = part[i : i + 1] == "^"
    i += negated
    ranges: list[tuple[int, int]] = []
    while True:
        if part[i : i + 1] == "]" and ranges:
            break
        low, i = _bound(part, i)
        high = low
        if part[i : i + 1] == "-":
            high, i = _bound(part, i + 1)
        ranges.append((low, high))
    choices = "|".join(_range(low, high) for low, high in ranges if low <= high) or "(?!)"
    if negated:
        return f"(?:(?!{choices})(?:[\x00-\x7f]|[\xc2-\xf4][\x80-\xbf]+|[\x80-\xff]))", i + 1
    return f"(?:{choices})", i + 1


def _bound(part: str, i: int) -> tuple[int, int]:
    if part[i : i + 1] == "\\":
        i += 1
    elif part[i : i + 1] in ("-", "]"):
        raise InvalidPatternError(f"syntax error in pattern: `{part}`")
    if i >= len(part):
        raise InvalidPatternError(f"syntax error in pattern: `{part}`")
    return ord(part[i]), i + 1


def _range(low: int, high: int) -> str:
    """Match UTF-8 of the code points `low` to `high`; byte-wise order is code point order."""
    if high < 0x80:
        return f"[{re.escape(chr(low))}-{re.escape(chr(high))}]"
    if high - low > 4096:
        raise InvalidPatternError("syntax error in pattern: class is too large")
    return "|".join(_literal(chr(code)) for code in range(low, high + 1))


def _literal(char: str) -> str:
    return re.escape(char.encode("utf-8", "surrogateescape").decode("latin-1"))
