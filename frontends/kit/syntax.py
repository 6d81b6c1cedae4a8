"""Finding the frontend that a file asks for, and its `check` directive, before it is parsed.

BuildKit reads comments that begin with `#` or `//`, and JSON documents. Ours are two more comments,
`;` and `--`, and YAML documents whose first key is `syntax`: nothing of that can be a Dockerfile.

Spec: syntax reference, section 7.
"""

from __future__ import annotations

import re
from typing import Final

from torana.core.records import dataclass

_DIRECTIVE: Final = r"\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*"
_FORMS: Final = tuple(re.compile(f"{mark}{_DIRECTIVE}") for mark in ("#", "//"))
_OUR_FORMS: Final = tuple(re.compile(f"{mark}{_DIRECTIVE}") for mark in (";+", "--"))
_YAML_KEY: Final = re.compile(
    r"""syntax:[ \t]+(?P<quote>["']?)(?P<value>[^"'#]+?)(?P=quote)[ \t]*(?:[ \t]\#.*)?"""
)
_YAML_HEAD: Final = re.compile(r"\s*(?:#.*|---(?:\s.*)?|%YAML.*)?")
_KNOWN: Final = frozenset(("syntax", "escape", "check"))


@dataclass(frozen=True, slots=True)
class Syntax:
    """A frontend image, its whole command line, and the line that says so (JSON: 0 or 1)."""

    image: str
    command_line: str
    line: int


def find_syntax(data: bytes) -> Syntax | None:
    """Give what `# syntax=`, `// syntax=` or a JSON document says, as BuildKit does."""
    text, skipped = _start(data)
    return _in_comments(text, skipped, _FORMS) or _json_syntax(text, skipped)


def find_any_syntax(data: bytes) -> Syntax | None:
    """Give what `find_syntax` gives, else what the comments of other languages and YAML say."""
    found = find_syntax(data)
    if found is not None:
        return found
    text, skipped = _start(data)
    return _in_comments(text, skipped, _OUR_FORMS) or _yaml_syntax(text, skipped)


def find_check(data: bytes) -> str:
    """Give the options of the `check` directive, empty without one."""
    text, _ = _start(data)
    return _directives(text, _FORMS[0]).get("check", ("", 0))[0]


def _start(data: bytes) -> tuple[str, int]:
    """Drop a byte-order mark and one shebang line; gives the number of lines dropped."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    if data.startswith(b"#!"):
        return data.partition(b"\n")[2].decode("utf-8", "surrogateescape"), 1
    return data.decode("utf-8", "surrogateescape"), 0


def _directives(text: str, form: re.Pattern[str]) -> dict[str, tuple[str, int]]:
    found: dict[str, tuple[str, int]] = {}
    start = number = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        number += 1
        match = form.fullmatch(text[start:end].rstrip("\r"))
        name = match[1].lower() if match else ""
        if match is None or name not in _KNOWN or name in found:
            break
        found[name] = match[2], number
        start = end + 1
    return found


def _in_comments(text: str, skipped: int, forms: tuple[re.Pattern[str], ...]) -> Syntax | None:
    for form in forms:
        found = _directives(text, form)
        if "syntax" in found:
            value, line = found["syntax"]
            return Syntax(value.partition(" ")[0], value, line + skipped)
    return None


def _json_syntax(text: str, line: int) -> Syntax | None:
    if not text.lstrip().startswith("{"):
        return None
    import json

    try:
        value = json.loads(text).get("syntax")
    except (ValueError, RecursionError):
        return None
    return Syntax(value, value, line) if isinstance(value, str) else None


def _yaml_syntax(text: str, skipped: int) -> Syntax | None:
    """Read the first key: what comes later could be part of anything, a here-document say."""
    for number, line in enumerate(text.split("\n"), 1 + skipped):
        line = line.rstrip("\r")
        if (match := _YAML_KEY.fullmatch(line)) is not None:
            value = match["value"].strip()
            return Syntax(value.partition(" ")[0], value, number)
        if not _YAML_HEAD.fullmatch(line):
            return None
    return None
