"""`OptionSpec`: one option of a frontend, whichever way it was declared.

A value comes as text and leaves as JSON would have it; its schema says which values there are.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING
from typing import Any, Final

from torana.core.records import dataclass
from torana.frontends.kit.options import InvalidOptionError
from torana.frontends.kit.suggest import suggest
from torana.frontends.kit.values import csv_fields, parse_bool, parse_int

# Most special first: a text that may be a number or a word is a number if it can be.
_KINDS: Final = ("boolean", "integer", "number", "array", "object", "string", "null")
_KIND_WORDS: Final = {
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "array": "a list",
    "object": "a JSON object",
    "null": "empty",
}
_UNIONS: Final = ("anyOf", "oneOf", "allOf")
_NO_VALUE: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionSpec:
    """One option: `name` as users write it, and the JSON Schema of its values."""

    name: str
    schema: Mapping[str, Any]
    field: str = ""  # of the dataclass
    default: Any = MISSING  # as JSON has it
    is_required: bool = False
    make: Any = None  # what makes a field's value of a JSON one
    kinds: tuple[str, ...] = ("string",)  # types of JSON Schema, most special first
    item_kinds: tuple[str, ...] = ("string",)  # of a list

    @property
    def help(self) -> str:
        return str(self.schema.get("description", ""))

    @property
    def build_arg(self) -> str:
        return re.sub(r"\W", "_", self.name).upper()

    @property
    def shown_kind(self) -> str:
        """What values there are, in short: `low|high`, `integer`."""
        if "enum" in self.schema:
            return "|".join(shown(value) for value in self.schema["enum"])
        return "|".join(kind for kind in self.kinds if kind != "null")

    @property
    def shown_default(self) -> str:
        """The default as a user would write it, empty without one."""
        return "" if self.default is MISSING else shown(self.default)

    def parse(self, text: str) -> Any:
        """Read a text as a value of one of the kinds; limits are not looked at.

        Raises:
            InvalidOptionError: it is of none.
        """
        for kind in self.kinds:
            value = _parsed(kind, text, self.item_kinds)
            if value is not _NO_VALUE:
                return value
        wanted = " or ".join(_KIND_WORDS[kind] for kind in self.kinds if kind != "null")
        raise self.invalid(f"not {wanted}: `{text}`")

    def invalid(self, message: str, hint: str | None = None) -> InvalidOptionError:
        return InvalidOptionError(
            f"option `{self.name}`: {message}", hint=hint or self.help or None
        )

    def breach(self, keyword: str, limit: Any, value: Any, where: str = "") -> InvalidOptionError:
        """Say which keyword of the schema a value breaks; `where` is a place inside of it."""
        message, hint = _breach(keyword, limit, shown(value))
        return self.invalid(f"{where}{message}", hint)

    def missing(self, why: str = "") -> InvalidOptionError:
        hint = f"`--opt {self.name}=...`" + (f": {self.help}" if self.help else "")
        return InvalidOptionError(f"option `{self.name}` is missing{why}", hint=hint)


def spec_of(name: str, schema: Any, root: Mapping[str, Any]) -> OptionSpec:
    """Give the option `name` of a JSON Schema of type object; `schema` is that of its values."""
    schema = resolved(schema, root) if isinstance(schema, Mapping) else {}
    default = schema.get("default", MISSING)
    return OptionSpec(
        name=name,
        schema=schema,
        default=default,
        is_required=name in root.get("required", ()) and default is MISSING,
        kinds=kinds_of(schema, root),
        item_kinds=item_kinds_of(schema, root),
    )


def shown(value: Any) -> str:
    """Give a value as a user would write it."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and not any(isinstance(v, list | dict) for v in value):
        return ",".join(shown(each) for each in value)
    return json.dumps(value, ensure_ascii=False)


def kinds_of(schema: Mapping[str, Any], root: Mapping[str, Any]) -> tuple[str, ...]:
    """Give the types of the values of a schema; `root` has what it refers to."""
    found = set(_types(schema, root, depth=0)) or {"string"}
    return tuple(kind for kind in _KINDS if kind in found)


def item_kinds_of(schema: Mapping[str, Any], root: Mapping[str, Any]) -> tuple[str, ...]:
    """Give the types of the items of a list."""
    items = resolved(schema, root).get("items")
    return kinds_of(items, root) if isinstance(items, Mapping) else ("string",)


def resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow a reference into the same document; others are left to the validator."""
    for _ in range(_MAX_REFERENCES):
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/"):
            break
        found: Any = root
        for part in reference[2:].split("/"):
            name = part.replace("~1", "/").replace("~0", "~")
            found = found.get(name) if isinstance(found, Mapping) else None
        if not isinstance(found, Mapping):
            break
        schema = {**found, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema


_MAX_REFERENCES: Final = 16


def _types(schema: Any, root: Mapping[str, Any], depth: int) -> Iterable[str]:
    if not isinstance(schema, Mapping) or depth > _MAX_REFERENCES:
        return
    schema = resolved(schema, root)
    told = schema.get("type")
    if told is not None:
        yield from [told] if isinstance(told, str) else told
        return
    values = [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else ())]
    yield from (type_of(value) for value in values)
    for key in _UNIONS:
        for part in schema.get(key, ()):
            yield from _types(part, root, depth + 1)


def type_of(value: Any) -> str:
    """Give the JSON type of a value."""
    match value:
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case None:
            return "null"
        case Mapping():
            return "object"
    return "array"


def _parsed(kind: str, text: str, item_kinds: Sequence[str]) -> Any:
    match kind:
        case "boolean":
            value = parse_bool(text)
            return _NO_VALUE if value is None else value
        case "integer":
            try:
                return parse_int(text)
            except ValueError:
                return _NO_VALUE
        case "number":
            return _number(text)
        case "null":
            return None if text == "" else _NO_VALUE
        case "object":
            return _json(text, dict)
        case "array":
            return _list(text, item_kinds)
    return text


def _number(text: str) -> Any:
    try:
        value = float(text)
    except ValueError:
        return _NO_VALUE
    return value if math.isfinite(value) else _NO_VALUE


def _json(text: str, kind: type) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return _NO_VALUE
    return value if isinstance(value, kind) else _NO_VALUE


def _list(text: str, item_kinds: Sequence[str]) -> Any:
    """Read a list: with commas between plain values, else as JSON."""
    if {"object", "array"} & set(item_kinds):
        return _json(text, list)
    items = []
    for field in csv_fields(text) if text else ():
        found = (_parsed(kind, field, ()) for kind in item_kinds)
        item = next((value for value in found if value is not _NO_VALUE), _NO_VALUE)
        if item is _NO_VALUE:
            return _NO_VALUE
        items.append(item)
    return items


def _breach(keyword: str, limit: Any, value: str) -> tuple[str, str | None]:
    match keyword:
        case "enum":
            choices = [shown(choice) for choice in limit]
            near = suggest(value, choices)
            hint = None if near is None else f"did you mean `{near}`?"
            known = ", ".join(f"`{choice}`" for choice in choices)
            return f"not one of {known}: `{value}`", hint
        case "const":
            return f"not `{shown(limit)}`: `{value}`", None
        case "minimum":
            return f"less than {limit}: {value}", None
        case "maximum":
            return f"more than {limit}: {value}", None
        case "exclusiveMinimum":
            return f"not more than {limit}: {value}", None
        case "exclusiveMaximum":
            return f"not less than {limit}: {value}", None
        case "multipleOf":
            return f"not a multiple of {limit}: {value}", None
        case "pattern":
            return f"does not match `{limit}`: `{value}`", None
        case "format":
            return f"not of the form `{limit}`: `{value}`", None
        case "minLength":
            return f"shorter than {limit} characters: `{value}`", None
        case "maxLength":
            return f"longer than {limit} characters: `{value}`", None
        case "minItems":
            return f"fewer than {limit} items: `{value}`", None
        case "maxItems":
            return f"more than {limit} items: `{value}`", None
        case "uniqueItems":
            return f"an item is there twice: `{value}`", None
        case "type":
            kinds = [limit] if isinstance(limit, str) else limit
            wanted = " or ".join(_KIND_WORDS.get(kind, "a text") for kind in kinds)
            return f"not {wanted}: `{value}`", None
        case "additionalProperties":
            return f"has a member that is not known: `{value}`", None
        case "required":
            return f"a member is missing: `{value}`", None
    return f"not a possible value: `{value}`", None
