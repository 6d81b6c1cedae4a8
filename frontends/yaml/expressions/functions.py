"""The functions of expressions. Each checks its arguments, and none is slow for any of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from torana.frontends.yaml.expressions.values import Value, Version, kind, text

MAX_TEXT: Final = 64 << 10  # characters of any result


def lower(value: Value) -> Value:
    return _text(value).lower()


def upper(value: Value) -> Value:
    return _text(value).upper()


def replace(value: Value, old: Value, new: Value) -> Value:
    whole, old, new = _text(value), _text(old), _text(new)
    if not old:
        raise ValueError("`replace` needs text to look for")
    if len(whole) + whole.count(old) * len(new) > MAX_TEXT:
        raise ValueError(f"the result has more than {MAX_TEXT >> 10} KiB")
    return whole.replace(old, new)


def startswith(value: Value, prefix: Value) -> Value:
    return _text(value).startswith(_text(prefix))


def endswith(value: Value, suffix: Value) -> Value:
    return _text(value).endswith(_text(suffix))


def join(values: Value, separator: Value) -> Value:
    if not isinstance(values, tuple):
        raise ValueError(f"`join` needs a list, not {kind(values)}")
    parts = [text(value) for value in values]
    separator = _text(separator)
    if sum(map(len, parts)) + len(separator) * len(parts) > MAX_TEXT:
        raise ValueError(f"the result has more than {MAX_TEXT >> 10} KiB")
    return separator.join(parts)


def split(value: Value, separator: Value) -> Value:
    if not (by := _text(separator)):
        raise ValueError("`split` needs a separator")
    return tuple(_text(value).split(by))


def version(value: Value) -> Value:
    return value if isinstance(value, Version) else Version(_text(value))


def match(pattern: Value, value: Value) -> Value:
    from torana.frontends.yaml.expressions.pattern import Pattern

    return Pattern.parse(_text(pattern)).matches(_text(value))


def default(value: Value, otherwise: Value) -> Value:
    return otherwise if value is None or value == "" else value


FUNCTIONS: Final[Mapping[str, tuple[int, Callable[..., Any]]]] = {
    "default": (2, default),
    "endswith": (2, endswith),
    "join": (2, join),
    "lower": (1, lower),
    "match": (2, match),
    "replace": (3, replace),
    "split": (2, split),
    "startswith": (2, startswith),
    "upper": (1, upper),
    "version": (1, version),
}


def _text(value: Value) -> str:
    if isinstance(value, Version):
        return value.text
    if not isinstance(value, str):
        raise ValueError(f"text is needed, not {kind(value)}")
    return value
