"""Values of expressions: text, integers, truth values, versions, lists, and null."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import field
from functools import total_ordering
from typing import Any, Final

from torana.core.records import dataclass

_PART: Final = re.compile(r"[0-9]+|[A-Za-z]+")


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Version:
    """A version: compares by its numbers, and one with letters behind comes before one without.

    `1.10` is later than `1.9`, `2.0-rc1` earlier than `2.0`, `1.2` the same as `1.2.0`; what
    follows a `+` does not count.
    """

    text: str
    key: tuple[Any, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        body = self.text.partition("+")[0].removeprefix("v")
        found = re.match(r"[0-9]+(?:\.[0-9]+)*", body)
        if found is None or len(self.text) > 128:
            raise ValueError(f"not a version: `{self.text[:60]}`")
        numbers = [int(number) for number in found[0].split(".")]
        while len(numbers) > 1 and numbers[-1] == 0:
            numbers.pop()
        rest = tuple(
            (0, int(part), "") if part.isdigit() else (1, 0, part.lower())
            for part in _PART.findall(body[found.end() :])
        )
        object.__setattr__(self, "key", (tuple(numbers), not rest, rest))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self.key == other.key

    def __lt__(self, other: Version) -> bool:
        return bool(self.key < other.key)

    def __hash__(self) -> int:
        return hash(self.key)


Value = str | int | bool | Version | None | tuple["Value", ...]


def kind(value: Value) -> str:
    """Name the type of a value, with an article."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int():
            return "an integer"
        case str():
            return "text"
        case Version():
            return "a version"
    return "a list"


def text(value: Value) -> str:
    """Give a value as it stands in text; null is empty.

    Raises:
        ValueError: a list has no one form; `join` gives one.
    """
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case Version():
            return value.text
        case tuple():
            raise ValueError("a list has no form as text: use `join`")
    return str(value)


def typed(written: str, type: str) -> Value:
    """Read text as a type: `string`, `int`, `bool` or `version`.

    Raises:
        ValueError: it is none; the message says what was wanted.
    """
    match type:
        case "int":
            if re.fullmatch(r"-?[0-9]{1,18}", written) is None:
                raise ValueError("must be an integer")
            return int(written)
        case "bool":
            if written not in ("true", "false"):
                raise ValueError("must be true or false")
            return written == "true"
        case "version":
            try:
                return Version(written)
            except ValueError as err:
                raise ValueError("must be a version such as 1.2.3") from err
    return written


def equal(one: Value, other: Value) -> bool:
    """Compare values of one type; null equals only null.

    Raises:
        ValueError: the types differ.
    """
    if one is None or other is None:
        return one is other
    one, other = comparable(one, other)
    return one == other


def comparable(one: Value, other: Value) -> tuple[Any, Any]:
    """Give two values of one type; text beside a version is read as one.

    Raises:
        ValueError: the types differ.
    """
    if isinstance(one, Version) and isinstance(other, str):
        return one, Version(other)
    if isinstance(one, str) and isinstance(other, Version):
        return Version(one), other
    if type(one) is not type(other):
        raise ValueError(f"{kind(one)} cannot be compared with {kind(other)}")
    return one, other


def as_items(values: Sequence[Value]) -> Value:
    return tuple(values)
