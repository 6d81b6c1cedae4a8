"""Splitting the text behind an instruction word: flags, arrays, words, pairs.

Spec: syntax reference, section 5.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

from torana.core.errors import BuildFileError
from torana.frontends.dockerfile.quoting import go_quote
from torana.frontends.dockerfile.spaces import BLANKS, SPACES

_LATIN_SPACES: Final = "\t\n\v\f\r \x85\xa0"
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def split_flags(text: str) -> tuple[tuple[str, ...], str]:
    """Give the leading words that start with `--`, unquoted, and the rest.

    Bytes are taken for Latin-1 characters, as the original does.
    """
    if not text.lstrip(_LATIN_SPACES).startswith("--"):
        return (), text
    data = text.encode("utf-8", "surrogateescape")
    latin = data.decode("latin-1")
    flags: list[str] = []
    at = 0
    while at < len(latin):
        if latin[at] in _LATIN_SPACES:
            at += 1
            continue
        if not latin.startswith("--", at):
            return tuple(flags), data[at:].decode("utf-8", "surrogateescape")
        word, at = _flag(latin, at)
        if word == "--":
            return tuple(flags), data[at:].decode("utf-8", "surrogateescape")
        flags.append(word)
    return tuple(flags), ""


def _flag(text: str, at: int) -> tuple[str, int]:
    out: list[str] = []
    quote = ""
    while at < len(text):
        char = text[at]
        if not quote and char in _LATIN_SPACES:
            break
        at += 1
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        elif char == "\\":
            out.append(text[at : at + 1])
            at += 1
        else:
            out.append(char)
    return "".join(out), at


def parse_array(text: str) -> list[str] | None:
    """Read the JSON form; None if it is none.

    Raises:
        BuildFileError: valid JSON with elements that are no strings.
    """
    if not text.startswith("["):
        return None
    try:
        value: Any = json.loads(text.strip(" \t\r\n"), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(item, str) for item in value):
        raise BuildFileError(
            "when using JSON array syntax, arrays must be comprised of strings only"
        )
    return [_SURROGATE.sub("\ufffd", item) for item in value]


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"not JSON: {name}")


def split_words(text: str, escape: str) -> list[str]:
    """Split at white space; quotes group, and stay in the words like escapes do."""
    words: list[str] = []
    at = 0
    while at < len(text):
        if text[at] in SPACES:
            at += 1
            continue
        word, at = _word(text, at, escape)
        if word:
            words.append(word)
    return words


def _word(text: str, at: int, escape: str) -> tuple[str, int]:
    start, quote = at, ""
    while at < len(text):
        char = text[at]
        if not quote and char in SPACES:
            break
        at += 1
        if char == escape and quote != "'":
            if at == len(text):
                return text[start : at - 1], at
            at += 1
        elif char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
    return text[start:at], at


def parse_pairs(text: str, instruction: str, escape: str) -> list[tuple[str, str, str]]:
    """Read the arguments of ENV and LABEL as name, value and `=` (empty: the old form).

    Raises:
        BuildFileError: a word without `=`, or an old form without a value.
    """
    words = split_words(text, escape)
    if not words:
        return []
    if "=" not in words[0]:
        parts = BLANKS.split(text, maxsplit=1)
        if len(parts) < 2:
            raise BuildFileError(f"{instruction} must have two arguments")
        return [(parts[0], parts[1], "")]
    pairs = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise BuildFileError(
                f"Syntax error - can't find = in {go_quote(word)}. Must be of the form: name=value"
            )
        pairs.append((name, value, "="))
    return pairs
