"""Protobuf messages in the JSON that Go's `encoding/json` makes of their structs.

Names as in the `.proto` file, enums and all integers as numbers, bytes in base64, zero values left
out. This is not protojson.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from torana.core.errors import CorruptError

M = TypeVar("M", bound=Message)
Field = Any  # FieldDescriptor; its stubs differ between the implementations of protobuf
_MAX_DEPTH = 64
_ESCAPES = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}


def dump(message: Message) -> bytes:
    """Give the JSON text of `message`, as compact as Go's and in the order of its fields."""
    text = json.dumps(_tree(message), ensure_ascii=False, separators=(",", ":"))
    return text.translate(_ESCAPES).encode("utf-8", "surrogatepass")


def load(text: bytes, message_type: type[M]) -> M:
    """Read a message; names match in any case, unknown ones are skipped.

    Raises:
        CorruptError: not JSON, or a value that does not fit its field.
    """
    message = message_type()
    try:
        _fill(message, json.loads(text), 0)
    except (ValueError, TypeError, RecursionError, binascii.Error) as err:
        raise CorruptError(f"cannot read JSON of {message_type.DESCRIPTOR.full_name}") from err
    return message


def _tree(message: Message) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    fields: Sequence[Field] = message.DESCRIPTOR.fields
    for field in fields:
        value = getattr(message, field.name)
        if field.is_repeated:
            if not len(value):
                continue
            if _is_map(field):
                items = field.message_type.fields_by_name["value"]
                tree[field.name] = {_key(k): _plain(items, value[k]) for k in sorted(value)}
            else:
                tree[field.name] = [_plain(field, item) for item in value]
        elif field.message_type is not None:
            if message.HasField(field.name):
                tree[field.name] = _tree(value)
        elif value:
            tree[field.name] = _plain(field, value)
    return tree


def _plain(field: Field, value: Any) -> Any:
    if field.message_type is not None:
        return _tree(value)
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _key(key: Any) -> str:
    return json.dumps(key) if isinstance(key, bool | int) else key


def _is_map(field: Field) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def _fill(message: Message, tree: Any, depth: int) -> None:
    if depth > _MAX_DEPTH or not isinstance(tree, Mapping):
        raise ValueError("not an object, or too deep")
    fields: dict[str, Field] = {f.name.lower(): f for f in message.DESCRIPTOR.fields}
    for name, value in tree.items():
        field = fields.get(name.lower())
        if field is None or value is None:
            continue
        target = getattr(message, field.name)
        if _is_map(field):
            _fill_map(target, field, value, depth)
        elif field.is_repeated:
            if not isinstance(value, Sequence) or isinstance(value, str):
                raise ValueError("not a list")
            for item in value:
                if field.message_type is not None:
                    _fill(target.add(), item, depth + 1)
                else:
                    target.append(_scalar(field, item))
        elif field.message_type is not None:
            target.SetInParent()
            _fill(target, value, depth + 1)
        else:
            setattr(message, field.name, _scalar(field, value))


def _fill_map(target: Any, field: Field, value: Any, depth: int) -> None:
    if not isinstance(value, Mapping):
        raise ValueError("not an object")
    keys = field.message_type.fields_by_name["key"]
    values = field.message_type.fields_by_name["value"]
    for key, item in value.items():
        typed = key if keys.type == FieldDescriptor.TYPE_STRING else json.loads(key)
        if values.message_type is not None:
            _fill(target[typed], item, depth + 1)
        else:
            target[typed] = _scalar(values, item)


def _scalar(field: Field, value: Any) -> Any:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return base64.b64decode(value, validate=True)
    return value
