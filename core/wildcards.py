"""Shell patterns for paths: `*`, `?`, `[...]` within a component, `\\` escapes; no `**`.

Spec: Go's `filepath.Match`, split at the first component that has a wildcard.
"""

from __future__ import annotations

import re
from functools import lru_cache

from torana.core.patterns import InvalidPatternError


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
def component_patterns(pattern: str) -> tuple[re.Pattern[str], ...]:
    """Compile `pattern` to one expression per component, for names decoded by `os.fsdecode`.

    Raises:
        InvalidPatternError: an unclosed class or a lone escape.
    """
    return tuple(re.compile(_translate(part), re.DOTALL) for part in pattern.split("/"))


def _translate(part: str) -> str:
    out: list[str] = []
    i = 0
    while i < len(part):
        char = part[i]
        i += 1
        if char == "*":
            out.append(".*")
        elif char == "?":
            out.append(".")
        elif char == "[":
            text, i = _class(part, i)
            out.append(text)
        elif char == "\\":
            if i == len(part):
                raise InvalidPatternError(f"syntax error in pattern: `{part}`")
            out.append(re.escape(part[i]))
            i += 1
        else:
            out.append(re.escape(char))
    return "".join(out)


def _class(part: str, i: int) -> tuple[str, int]:
    """Read a class from behind its bracket; gives where it ends, too."""
    negated = part[i : i + 1] == "^"
    i += negated
    ranges: list[str] = []
    while not (ranges and part[i : i + 1] == "]"):
        low, i = _bound(part, i)
        high = low
        if part[i : i + 1] == "-":
            high, i = _bound(part, i + 1)
        # A range backwards matches nothing.
        ranges.append(f"{re.escape(low)}-{re.escape(high)}" if low <= high else "")
    body = "".join(ranges)
    if not body:
        return "." if negated else "(?!)", i + 1
    return f"[{'^' if negated else ''}{body}]", i + 1


def _bound(part: str, i: int) -> tuple[str, int]:
    if part[i : i + 1] == "\\":
        i += 1
    elif part[i : i + 1] in ("-", "]"):
        raise InvalidPatternError(f"syntax error in pattern: `{part}`")
    if i >= len(part):
        raise InvalidPatternError(f"syntax error in pattern: `{part}`")
    return part[i], i + 1
