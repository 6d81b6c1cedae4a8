"""Ignore files: lines of `.dockerignore` and its like to patterns for `PatternMatcher`.

Spec: conversion reference, section 4.2.
"""

from __future__ import annotations

import posixpath
from typing import Final

from torana.core.errors import UserError

_MAX_LINE: Final = 65535  # bytes


class InvalidIgnoreFileError(UserError):
    """An ignore file cannot be read."""

    code = "IGNORE_FILE_INVALID"


def parse_ignore_file(data: bytes) -> tuple[str, ...]:
    """Give the patterns in order, paths cleaned, `!` in front of exceptions.

    Raises:
        InvalidIgnoreFileError: a line is too long.
    """
    patterns = []
    for raw in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        if len(raw) > _MAX_LINE:
            raise InvalidIgnoreFileError("bufio.Scanner: token too long")
        line = raw.decode("utf-8", "surrogateescape").rstrip("\r")
        if line.startswith("#"):
            continue
        text = line.strip()
        is_exception = text.startswith("!")
        if is_exception:
            text = text[1:].strip()
        if text:
            text = _clean(text)
        if text or is_exception:
            patterns.append(f"!{text}" if is_exception else text)
    return tuple(patterns)


def _clean(text: str) -> str:
    cleaned = posixpath.normpath(text).replace("//", "/")
    return cleaned[1:] if len(cleaned) > 1 and cleaned.startswith("/") else cleaned
