"""Finding the frontend that a file asks for, and its `check` directive, before it is parsed.

Spec: syntax reference, section 7.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_DIRECTIVE: Final = r"\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*"
_FORMS: Final = (re.compile(f"#{_DIRECTIVE}"), re.compile(f"//{_DIRECTIVE}"))
_KNOWN: Final = frozenset(("syntax", "escape", "check"))


@dataclass(frozen=True, slots=True)
class Syntax:
    """A frontend image, its whole command line, and the line that says so (JSON: 0 or 1)."""

    image: str
    command_line: str
    line: int


def find_syntax(data: bytes) -> Syntax | None:
    """Give what `# syntax=`, `// syntax=` or a JSON document says."""
    text, skipped = _start(data)
    for form in _FORMS:
        found = _directives(text, form)
        if "syntax" in found:
            value, line = found["syntax"]
            return Syntax(value.partition(" ")[0], value, line + skipped)
    return _json_syntax(text, skipped)


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


def _json_syntax(text: str, line: int) -> Syntax | None:
    if not text.lstrip().startswith("{"):
        return None
    import json

    try:
        value = json.loads(text).get("syntax")
    except (ValueError, RecursionError):
        return None
    return Syntax(value, value, line) if isinstance(value, str) else None
