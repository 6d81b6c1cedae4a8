"""Readers of option values: numbers, booleans and lists as BuildKit's clients write them."""

from __future__ import annotations

import re
from typing import Final

_TRUE: Final = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE: Final = frozenset(("0", "f", "F", "FALSE", "false", "False"))
_INT: Final = re.compile(r"[+-]?[0-9]+")


def parse_bool(text: str) -> bool | None:
    """Read a boolean; None for anything that is none."""
    return True if text in _TRUE else False if text in _FALSE else None


def parse_int(text: str) -> int:
    """Read a signed 64-bit decimal number.

    Raises:
        ValueError: not a number or too big, in the words that users of BuildKit know.
    """
    if not _INT.fullmatch(text):
        raise ValueError(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    value = int(text)
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f'strconv.ParseInt: parsing "{text}": value out of range')
    return value


def csv_fields(text: str) -> list[str]:
    """Split at commas; a field may be wrapped in double quotes, doubled inside."""
    if '"' not in text:
        return text.split(",")
    fields, at = [], 0
    while at <= len(text):
        field, at = _quoted(text, at) if text.startswith('"', at) else _plain(text, at)
        fields.append(field)
    return fields


def _plain(text: str, at: int) -> tuple[str, int]:
    comma = text.find(",", at)
    end = len(text) if comma < 0 else comma
    return text[at:end], end + 1


def _quoted(text: str, at: int) -> tuple[str, int]:
    out, at = [], at + 1
    while (quote := text.find('"', at)) >= 0:
        out.append(text[at:quote])
        if not text.startswith('"', quote + 1):
            rest, at = _plain(text, quote + 1)
            return "".join(out) + rest, at
        out.append('"')
        at = quote + 2
    return "".join(out) + text[at:], len(text) + 1
