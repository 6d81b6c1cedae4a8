"""Canonical bytes of LLB messages, equal to those of BuildKit, and their reader.

`schema` describes each message. Writing leaves out defaults; reading skips what it does not know.

Spec: Protocol Buffers encoding; `reference` notes on canonical bytes in docs/design/llb.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, TypeVar

from torana.core.errors import Position, UserError
from torana.core.llb import definition as d
from torana.core.llb import ops as o
from torana.core.llb.schema import SCHEMA, Field
from torana.core.oci.digest import Digest

T = TypeVar("T")

MAX_DEPTH: Final = 100
MAX_BYTES: Final = 1 << 30
_U64: Final = (1 << 64) - 1


class InvalidLLBError(UserError):
    """Bytes or a graph are not valid LLB."""

    code = "LLB_INVALID"


_VARINT: Final = frozenset({"bool", "int", "int32", "uint32", "uint64", "enum", "oneof_uint32"})


# --- writing ---------------------------------------------------------------------------------


def encode(message: Any) -> bytes:
    """Give the canonical bytes of any message of `SCHEMA`."""
    out = bytearray()
    kind = type(message)
    for attr, write, field, member, may_be_empty in _PLANS.get(kind) or _plan(kind):
        value = getattr(message, attr)
        if not value and (value is None or not may_be_empty):
            continue
        if member is None or type(value) is member:
            write(out, field, value)
    return bytes(out)


Writer = Callable[[bytearray, Field, Any], None]


Plan = tuple[tuple[str, Writer, Field, type | None, bool], ...]
_PLANS: Final[dict[type, Plan]] = {}


def _plan(kind: type) -> Plan:
    """Make the plan of a message: attribute, writer, type in a union, whether 0 is written."""
    _PLANS[kind] = tuple(
        (
            field.attr,
            _WRITERS[field.kind],
            field,
            field.type if field.kind == "oneof" else None,
            field.kind in _WRITTEN_WHEN_EMPTY,
        )
        for field in SCHEMA[kind]
    )
    return _PLANS[kind]


_WRITTEN_WHEN_EMPTY: Final = frozenset(("message", "oneof", "oneof_uint32", "optional_bytes"))


_SMALL: Final = tuple(bytes((value,)) for value in range(0x80))


_MINUS_ONE: Final = b"\xff" * 9 + b"\x01"


def _varint(value: int) -> bytes:
    if 0 <= value < 0x80:
        return _SMALL[value]
    if 0 <= value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    if value == -1:  # "none" of many fields
        return _MINUS_ONE
    value &= _U64
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _delimited(out: bytearray, number: int, data: bytes) -> None:
    out += _SMALL[number << 3 | 2] if number < 16 else _varint(number << 3 | 2)
    size = len(data)
    out += _SMALL[size] if size < 0x80 else _varint(size)
    out += data


def _write_int(out: bytearray, field: Field, value: int) -> None:
    if value:
        _write_present_int(out, field, value)


def _write_present_int(out: bytearray, field: Field, value: int) -> None:
    out += _SMALL[field.number << 3] if field.number < 16 else _varint(field.number << 3)
    out += _SMALL[value] if 0 <= value < 0x80 else _varint(value)


def _write_string(out: bytearray, field: Field, value: str) -> None:
    if value:
        _delimited(out, field.number, _utf8(value))


def _write_bytes(out: bytearray, field: Field, value: bytes) -> None:
    if value:
        _delimited(out, field.number, value)


def _write_optional_bytes(out: bytearray, field: Field, value: bytes) -> None:
    _delimited(out, field.number, value)


def _write_message(out: bytearray, field: Field, value: Any) -> None:
    _delimited(out, field.number, encode(value))


def _write_strings(out: bytearray, field: Field, value: tuple[str, ...]) -> None:
    for item in value:
        _delimited(out, field.number, _utf8(item))


def _write_byte_list(out: bytearray, field: Field, value: tuple[bytes, ...]) -> None:
    for item in value:
        _delimited(out, field.number, item)


def _write_messages(out: bytearray, field: Field, value: tuple[Any, ...]) -> None:
    for item in value:
        _delimited(out, field.number, encode(item))


def _write_packed(out: bytearray, field: Field, value: tuple[int, ...]) -> None:
    if value:
        _delimited(out, field.number, b"".join(_varint(item) for item in value))


def _write_map(out: bytearray, field: Field, value: Mapping[str, Any]) -> None:
    for key in sorted(value, key=_utf8):
        entry = bytearray()
        _delimited(entry, 1, _utf8(key))
        item = value[key]
        if field.type == "string":
            _delimited(entry, 2, _utf8(item))
        elif field.type == "bool":
            entry += bytes((2 << 3, int(item)))
        else:
            _delimited(entry, 2, encode(item))
        _delimited(out, field.number, bytes(entry))


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


_WRITERS: Final[dict[str, Callable[[bytearray, Field, Any], None]]] = {
    "string": _write_string,
    "digest": _write_string,
    "bytes": _write_bytes,
    "optional_bytes": _write_optional_bytes,
    "bool": _write_int,
    "int": _write_int,
    "int32": _write_int,
    "uint32": _write_int,
    "uint64": _write_int,
    "enum": _write_int,
    "oneof_uint32": _write_present_int,
    "message": _write_message,
    "oneof": _write_message,
    "packed": _write_packed,
    "strings": _write_strings,
    "byte_list": _write_byte_list,
    "messages": _write_messages,
    "map": _write_map,
}


# --- reading ---------------------------------------------------------------------------------


def decode(cls: type[T], data: bytes) -> T:
    """Read a message of class `cls`; unknown fields are skipped, the last of repeated scalars wins.

    Raises:
        InvalidLLBError: truncated, malformed, nested too deeply or too large.
    """
    if len(data) > MAX_BYTES:
        raise InvalidLLBError(f"failed to parse llb: larger than {MAX_BYTES} bytes")
    message: T = _decode(cls, memoryview(data), 0)
    return message


@cache
def _by_number(cls: type) -> dict[int, Field]:
    return {field.number: field for field in SCHEMA[cls]}


def _decode(cls: type, view: memoryview, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise InvalidLLBError("failed to parse llb: nested too deeply")
    fields = _by_number(cls)
    values: dict[str, Any] = {}
    position = 0
    while position < len(view):
        key, position = _read_varint(view, position)
        number, wire = key >> 3, key & 7
        payload: Any
        if wire == 0:
            payload, position = _read_varint(view, position)
        elif wire == 2:
            size, position = _read_varint(view, position)
            if size > len(view) - position:
                raise InvalidLLBError("failed to parse llb: truncated")
            payload = view[position : position + size]
            position += size
        elif wire in (1, 5):
            position += 8 if wire == 1 else 4
            if position > len(view):
                raise InvalidLLBError("failed to parse llb: truncated")
            continue
        else:
            raise InvalidLLBError(f"failed to parse llb: wire type {wire}")
        field = fields.get(number)
        if number == 0:
            raise InvalidLLBError("failed to parse llb: field number 0")
        if field is not None:
            if cls is o.UserOpt:
                values.clear()  # a union of two attributes: the last one wins
            _store(values, field, payload, wire, depth)
    try:
        for name, value in values.items():
            if type(value) is list:
                values[name] = tuple(value)
        return cls(**{**_defaults(cls), **values})
    except (TypeError, ValueError) as err:
        raise InvalidLLBError(f"failed to parse llb: {cls.__name__}: {err}") from err


@cache
def _defaults(cls: type) -> dict[str, Any]:
    """Give proto3's defaults for all fields: they differ from ours for a few."""
    out: dict[str, Any] = {}
    for field in SCHEMA[cls]:
        out[field.attr] = _DEFAULTS.get(field.kind)
        if field.kind == "enum":
            out[field.attr] = field.type(0)
    if cls is d.Range:
        out.update(start=Position(0), end=Position(0))
    return out


_DEFAULTS: Final[dict[str, Any]] = {
    "string": "",
    "digest": Digest(""),
    "bytes": b"",
    "bool": False,
    "int": 0,
    "int32": 0,
    "uint32": 0,
    "uint64": 0,
    "packed": (),
    "strings": (),
    "byte_list": (),
    "messages": (),
    "map": {},
}


def _store(values: dict[str, Any], field: Field, payload: Any, wire: int, depth: int) -> None:
    kind, attr = field.kind, field.attr
    if kind in _VARINT:
        if wire != 0:
            raise InvalidLLBError(f"failed to parse llb: field `{field.name}` is no number")
        values[attr] = _number(field, payload)
        return
    if kind == "packed":
        values.setdefault(attr, []).extend(_packed(payload, wire))
        return
    if wire != 2:
        raise InvalidLLBError(f"failed to parse llb: field `{field.name}` has wire type {wire}")
    if kind == "string":
        values[attr] = _text(payload)
    elif kind == "digest":
        values[attr] = Digest(_text(payload))
    elif kind in ("bytes", "optional_bytes"):
        values[attr] = bytes(payload)
    elif kind in ("message", "oneof"):
        values[attr] = _decode(field.type, payload, depth + 1)
    elif kind == "strings":
        values.setdefault(attr, []).append(_text(payload))
    elif kind == "byte_list":
        values.setdefault(attr, []).append(bytes(payload))
    elif kind == "messages":
        values.setdefault(attr, []).append(_decode(field.type, payload, depth + 1))
    else:
        key, value = _map_entry(field, payload, depth)
        values.setdefault(attr, {})[key] = value


def _number(field: Field, value: int) -> Any:
    if field.kind == "bool":
        return value != 0
    if field.kind in ("uint32", "oneof_uint32"):
        return value & 0xFFFFFFFF
    if field.kind == "uint64":
        return value
    if field.kind == "int":
        return value - (1 << 64) if value >> 63 else value
    value &= 0xFFFFFFFF
    value = value - (1 << 32) if value >> 31 else value
    if field.kind == "int32":
        return value
    try:
        return field.type(value)
    except ValueError:
        raise InvalidLLBError(f"unknown value of `{field.name}`: {value}") from None


def _packed(payload: Any, wire: int) -> list[int]:
    if wire == 0:
        return [payload - (1 << 64) if payload >> 63 else payload]
    numbers, position = [], 0
    while position < len(payload):
        value, position = _read_varint(payload, position)
        numbers.append(value - (1 << 64) if value >> 63 else value)
    return numbers


def _map_entry(field: Field, view: memoryview, depth: int) -> tuple[str, Any]:
    key = ""
    value: Any = (
        {"string": "", "bool": False}.get(field.type) if isinstance(field.type, str) else None
    )
    position = 0
    while position < len(view):
        tag, position = _read_varint(view, position)
        if tag & 7 == 0:
            payload, position = _read_varint(view, position)
            if tag >> 3 == 2 and field.type == "bool":
                value = payload != 0
            continue
        if tag & 7 != 2:
            raise InvalidLLBError(f"failed to parse llb: map `{field.name}`")
        size, position = _read_varint(view, position)
        if size > len(view) - position:
            raise InvalidLLBError("failed to parse llb: truncated")
        part = view[position : position + size]
        position += size
        if tag >> 3 == 1:
            key = _text(part)
        elif tag >> 3 == 2 and field.type == "string":
            value = _text(part)
        elif tag >> 3 == 2 and not isinstance(field.type, str):
            value = _decode(field.type, part, depth + 1)
    if value is None:
        value = _decode(field.type, memoryview(b""), depth + 1)
    return key, value


def _read_varint(view: memoryview, position: int) -> tuple[int, int]:
    result = shift = 0
    end = len(view)
    while position < end:
        byte = view[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & _U64, position
        shift += 7
        if shift > 63:
            raise InvalidLLBError("failed to parse llb: number too long")
    raise InvalidLLBError("failed to parse llb: truncated")


def _text(view: memoryview) -> str:
    return bytes(view).decode("utf-8", "surrogateescape")
