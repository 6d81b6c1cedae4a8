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

Writer = Callable[[bytearray, Any], None]
# Of a field: attribute, writer, type in a union, whether 0 is written.
Plan = tuple[tuple[str, Writer, type | None, bool], ...]
_PLANS: Final[dict[type, Plan]] = {}
_WRITTEN_WHEN_EMPTY: Final = frozenset(("message", "oneof", "oneof_uint32", "optional_bytes"))


def encode(message: Any) -> bytes:
    """Give the canonical bytes of any message of `SCHEMA`."""
    out = bytearray()
    kind = type(message)
    for attr, write, member, may_be_empty in _PLANS.get(kind) or _plan(kind):
        value = getattr(message, attr)
        if not value and (value is None or not may_be_empty):
            continue
        if member is None or type(value) is member:
            write(out, value)
    return bytes(out)


def _plan(kind: type) -> Plan:
    _PLANS[kind] = tuple(
        (
            field.attr,
            _writer(field),
            field.type if field.kind == "oneof" else None,
            field.kind in _WRITTEN_WHEN_EMPTY,
        )
        for field in SCHEMA[kind]
    )
    return _PLANS[kind]


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


def _delimited(out: bytearray, tag: bytes, data: bytes | bytearray) -> None:
    size = len(data)
    out += tag
    out += _SMALL[size] if size < 0x80 else _varint(size)
    out += data


def _writer(field: Field) -> Writer:
    """Make what writes values of a field, its tag worked out once."""
    kind = field.kind
    if kind in _VARINT:
        return _int_writer(_varint(field.number << 3))
    tag = _varint(field.number << 3 | 2)
    if kind == "map":
        return _map_writer(tag, field.type)
    give = _BYTES_OF.get(kind)
    if kind in ("strings", "byte_list", "messages"):
        return _list_writer(tag, _BYTES_OF[kind])
    if give is None:
        return lambda out, value: _delimited(out, tag, value)
    return lambda out, value: _delimited(out, tag, give(value))


def _int_writer(tag: bytes) -> Writer:
    def write(out: bytearray, value: int) -> None:
        out += tag
        out += _SMALL[value] if 0 <= value < 0x80 else _varint(value)

    return write


def _list_writer(tag: bytes, give: Callable[[Any], bytes]) -> Writer:
    def write(out: bytearray, value: tuple[Any, ...]) -> None:
        for item in value:
            _delimited(out, tag, give(item))

    return write


def _map_writer(tag: bytes, kind: Any) -> Writer:
    def write(out: bytearray, value: Mapping[str, Any]) -> None:
        for key in sorted(value, key=_utf8) if len(value) > 1 else value:
            entry = bytearray()
            _delimited(entry, _KEY, _utf8(key))
            item = value[key]
            if kind == "bool":
                entry += bytes((2 << 3, int(item)))
            else:
                _delimited(entry, _VALUE, _utf8(item) if kind == "string" else encode(item))
            _delimited(out, tag, entry)

    return write


_KEY: Final = _SMALL[1 << 3 | 2]
_VALUE: Final = _SMALL[2 << 3 | 2]


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _packed_bytes(value: tuple[int, ...]) -> bytes:
    return b"".join(_varint(item) for item in value)


_BYTES_OF: Final[dict[str, Callable[[Any], bytes]]] = {
    "string": _utf8,
    "digest": _utf8,
    "strings": _utf8,
    "byte_list": bytes,
    "message": encode,
    "oneof": encode,
    "messages": encode,
    "packed": _packed_bytes,
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
