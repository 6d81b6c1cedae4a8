"""Filters of build records: `status==error,startedAt>2h`.

Spec: capability `history.filter`: commas mean AND, several filters OR.
"""

from __future__ import annotations

import operator
import re
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from torana.core.errors import UserError
from torana.core.quantities import InvalidQuantityError, parse_duration_s
from torana.gateway.daemon.record import BuildRecord

Matcher = Callable[[BuildRecord], bool]

_TERM: Final = re.compile(r"([A-Za-z]+)\s*(==|!=|~=|>=|<=|>|<)\s*(.*)", re.DOTALL)
_TEXTS: Final[dict[str, Callable[[BuildRecord], str]]] = {
    "ref": lambda record: record.ref,
    "status": lambda record: record.status,
    "repository": lambda record: record.repository,
}
_ORDERS: Final[dict[str, Callable[[float, float], bool]]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


class InvalidFilterError(UserError):
    """A filter cannot be understood."""

    code = "FILTER_INVALID"


def parse_filters(filters: Sequence[str], *, now: float | None = None) -> Matcher:
    """Read filters; without any, every record matches. `now` is in seconds since the epoch.

    Raises:
        InvalidFilterError: a field, an operator or a value is wrong.
    """
    moment = time.time() if now is None else now
    alternatives = [
        [_term(term, moment) for term in _split(text)] for text in filters if text.strip()
    ]
    if not alternatives:
        return lambda record: True
    return lambda record: any(all(term(record) for term in terms) for terms in alternatives)


def _split(text: str) -> list[str]:
    """Split at commas outside of quotes."""
    return [part.strip() for part in re.findall(r'(?:"(?:[^"\\]|\\.)*"|[^,])+', text)]


def _term(text: str, now: float) -> Matcher:
    found = _TERM.fullmatch(text)
    if found is None:
        raise InvalidFilterError(f"invalid filter: `{text}`", hint="for example `status==error`")
    field, sign, raw = found[1], found[2], found[3].strip()
    value = raw[1:-1] if len(raw) > 1 and raw[0] == raw[-1] == '"' else raw
    if field in _TEXTS:
        return _text_term(field, sign, value, text)
    if field in ("startedAt", "completedAt", "duration"):
        return _number_term(field, sign, value, text, now)
    known = ", ".join(f"`{each}`" for each in (*_TEXTS, "startedAt", "completedAt", "duration"))
    raise InvalidFilterError(f"unknown field in filter: `{field}`", hint=f"known: {known}")


def _text_term(field: str, sign: str, value: str, text: str) -> Matcher:
    read = _TEXTS[field]
    match sign:
        case "==":
            return lambda record: read(record) == value
        case "!=":
            return lambda record: read(record) != value
        case "~=":
            try:
                pattern = re.compile(value)
            except re.error as err:
                raise InvalidFilterError(f"invalid pattern in filter: {err}: `{text}`") from None
            return lambda record: pattern.search(read(record)) is not None
    raise InvalidFilterError(f"`{sign}` does not go with `{field}`: `{text}`", hint="==, != or ~=")


def _number_term(field: str, sign: str, value: str, text: str, now: float) -> Matcher:
    order = _ORDERS.get(sign)
    if order is None:
        raise InvalidFilterError(
            f"`{sign}` does not go with `{field}`: `{text}`", hint=">, >=, < or <="
        )
    limit = _duration(value, text) if field == "duration" else _moment(value, text, now)

    def matches(record: BuildRecord) -> bool:
        if field == "startedAt":
            return order(record.created, limit)
        if field == "completedAt":
            return record.completed is not None and order(record.completed, limit)
        end = now if record.completed is None else record.completed
        return order(end - record.created, limit)

    return matches


def _duration(value: str, text: str) -> float:
    try:
        return parse_duration_s(value)
    except InvalidQuantityError as err:
        raise InvalidFilterError(f"{err.message} in filter `{text}`") from None


def _moment(value: str, text: str, now: float) -> float:
    """Read a time, or a duration before now."""
    try:
        return now - parse_duration_s(value)
    except InvalidQuantityError:
        pass
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise InvalidFilterError(
            f"invalid time in filter: `{text}`", hint="RFC 3339, or a duration such as `2h`"
        ) from None
    return moment.timestamp()
