"""LLB as JSON values, close to protojson: 64-bit numbers are text, bytes base64, defaults absent.

Field names are those of the schema (`secondaryInput`, `ID`), enum values are names.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from torana.core.llb.schema import SCHEMA, Field


def to_json(message: Any) -> dict[str, Any]:
    """Give the JSON value of any message of the schema, keys sorted."""
    found: dict[str, Any] = _sorted(in_order(message))
    return found


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def in_order(message: Any) -> dict[str, Any]:
    """Give the JSON value of any message of the schema, fields by number."""
    out: dict[str, Any] = {}
    for field in sorted(SCHEMA[type(message)], key=_number):
        value = getattr(message, field.attr)
        if value is None or (field.kind == "oneof" and type(value) is not field.type):
            continue
        if not value and field.kind not in ("message", "oneof", "oneof_uint32", "optional_bytes"):
            continue
        out[field.name] = _value(field, value)
    return out


def _number(field: Field) -> int:
    return field.number


def _value(field: Field, value: Any) -> Any:
    match field.kind:
        case "message" | "oneof":
            return in_order(value)
        case "messages":
            return [in_order(item) for item in value]
        case "map":
            return _map(value)
        case "bytes" | "optional_bytes":
            return base64.b64encode(value).decode("ascii")
        case "byte_list":
            return [base64.b64encode(item).decode("ascii") for item in value]
        case "int" | "uint64":
            return str(value)
        case "packed":
            return [str(item) if field.type == "int" else item for item in value]
        case "enum":
            return value.name if isinstance(value, IntEnum) else value
        case "strings":
            return [_text(item) for item in value]
        case "string" | "digest":
            return _text(value)
        case _:
            return value


def _map(value: Mapping[str, Any]) -> dict[str, Any]:
    out = {}
    for key in sorted(value):
        item = value[key]
        plain = isinstance(item, (str, bool))
        out[_text(key)] = (
            (_text(item) if isinstance(item, str) else item) if plain else in_order(item)
        )
    return out


def _text(text: str) -> str:
    """Give text that JSON can carry: bytes that are not UTF-8 become replacement characters."""
    return str(text).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
