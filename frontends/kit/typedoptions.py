"""Typed options: a frontend declares them once, and gets reading, checking, schema, help, docs.

The declaration is a dataclass:

>>> @dataclass(frozen=True)
... class Options:
...     jobs: int = option(4, help="how many at once", minimum=1)
...     keep_symbols: bool = option(False, help="do not strip")

or a JSON Schema of type object, as a mapping or in a file beside the frontend (of a
`torana-frontend.json` its `options` count). A user gives `--opt keep-symbols=true`, or, from
clients that know no `--opt`, `--build-arg KEEP_SYMBOLS=true`.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING
from enum import Enum
from typing import Any, Final, Literal, TypeVar, overload

from torana.frontends.kit.options import CLIENT_OPTIONS
from torana.frontends.kit.optionspec import OptionSpec, type_of
from torana.frontends.kit.resources import read_resource
from torana.frontends.kit.suggest import suggest

T = TypeVar("T")
Schema = Mapping[str, Any]
Declaration = type[Any] | Schema | None

_BUILD_ARG: Final = "build-arg:"
_MANIFEST: Final = "torana-frontend.json"
_LIMITS: Final = ("minimum", "maximum", "pattern")


def option(
    default: Any = MISSING,
    *,
    help: str = "",
    minimum: int | None = None,
    maximum: int | None = None,
    pattern: str = "",
) -> Any:
    """Declare a field of an options class; without a default it must be given."""
    limits = {"minimum": minimum, "maximum": maximum, "pattern": pattern or None}
    told = {"description": help or None, **limits}
    kept = {key: value for key, value in told.items() if value is not None}
    return dataclasses.field(default=default, metadata={"torana": kept}, kw_only=True)


def declaration_of(frontend: Any) -> Declaration:
    """Give what a frontend declares as `options`; a text names a file beside its module.

    Raises:
        TypeError: that file is no JSON Schema.
    """
    declared = getattr(frontend, "options", None)
    if not isinstance(declared, str):
        return typing.cast(Declaration, declared)
    import json

    of = frontend if isinstance(frontend, type) else type(frontend)
    try:
        found = json.loads(read_resource(of.__module__, declared))
        if declared == _MANIFEST:
            found = found["options"]
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise TypeError(f"no JSON Schema of options in `{declared}`: {err!r}") from err
    return typing.cast(Schema, found)


def specs_of(declared: Declaration) -> Sequence[OptionSpec]:
    """Give the options that are declared.

    Raises:
        TypeError: a field has a type that no option can have, or the schema is none.
    """
    if declared is None:
        return ()
    if not isinstance(declared, type):
        from torana.frontends.kit.optionschema import schema_specs

        return schema_specs(declared)
    hints = typing.get_type_hints(declared)
    return [_spec(field, hints[field.name]) for field in dataclasses.fields(declared)]


@overload
def read_options(declared: type[T], given: Mapping[str, str]) -> T: ...
@overload
def read_options(declared: Schema, given: Mapping[str, str]) -> dict[str, Any]: ...
def read_options(declared: Any, given: Mapping[str, str]) -> Any:
    """Read the options of a build: an object of the dataclass, or values by name.

    Raises:
        InvalidOptionError: a value is not as declared, or a required one is missing.
    """
    specs = specs_of(declared)
    texts = {}
    for spec in specs:
        text = given.get(spec.name, given.get(_BUILD_ARG + spec.build_arg))
        if text is not None:
            texts[spec.name] = text
        elif spec.is_required:
            raise spec.missing()
    if not isinstance(declared, type):
        from torana.frontends.kit.optionschema import read_values

        return read_values(declared, specs, texts)
    return declared(
        **{spec.field: _value(spec, texts[spec.name]) for spec in specs if spec.name in texts}
    )


def misspelt(declared: Declaration, given: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Give options that are nobody's, and the declared one that is probably meant.

    What is not near to any may be for another frontend, and is ignored.
    """
    names = [spec.name for spec in specs_of(declared)]
    for name in sorted(given.keys() - CLIENT_OPTIONS):
        near = None if ":" in name else suggest(name, names)
        if near is not None:
            yield name, near


def schema_of(declared: Declaration) -> dict[str, Any]:
    """Give the JSON Schema of options, as `torana-frontend.json` has it."""
    if isinstance(declared, Mapping):
        return dict(declared)
    specs = specs_of(declared)
    found: dict[str, Any] = {
        "type": "object",
        "properties": {spec.name: dict(spec.schema) for spec in specs},
    }
    required = [spec.name for spec in specs if spec.is_required]
    return {**found, "required": required} if required else found


def _value(spec: OptionSpec, text: str) -> Any:
    """Read the value of a field."""
    value = spec.parse(text)
    limits = spec.schema
    if "enum" in limits and value not in limits["enum"]:
        raise spec.breach("enum", limits["enum"], value)
    if "minimum" in limits and value < limits["minimum"]:
        raise spec.breach("minimum", limits["minimum"], value)
    if "maximum" in limits and value > limits["maximum"]:
        raise spec.breach("maximum", limits["maximum"], value)
    if "pattern" in limits and not re.search(limits["pattern"], value):
        raise spec.breach("pattern", limits["pattern"], value)
    return value if spec.make is None else spec.make(value)


def _spec(field: dataclasses.Field[Any], hint: Any) -> OptionSpec:
    said = dict(field.metadata.get("torana", {}))
    schema, make = _typed(field.name, hint)
    if "description" in said:
        schema["description"] = said["description"]
    if "enum" in schema:
        schema["enum"] = schema.pop("enum")  # after the description, as manifests have it
    schema |= {key: said[key] for key in _LIMITS if key in said}
    default = field.default
    if default is not MISSING:
        default = default.value if isinstance(default, Enum) else default
        default = list(default) if isinstance(default, tuple) else default
        if default is not None:
            schema["default"] = default
    return OptionSpec(
        name=field.name.replace("_", "-"),
        field=field.name,
        schema=schema,
        default=default,
        is_required=default is MISSING,
        make=make,
        kinds=(schema["type"],),
    )


def _typed(name: str, hint: Any) -> tuple[dict[str, Any], Any]:
    """Give the schema of a field's type, and what makes a value of one of JSON."""
    arguments = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType) and type(None) in arguments:
        (hint,) = (part for part in arguments if part is not type(None))
        return _typed(name, hint)
    if origin is Literal or (isinstance(hint, type) and issubclass(hint, Enum)):
        values = list(arguments) if origin is Literal else [member.value for member in hint]
        kinds = {type_of(value) for value in values}
        if kinds <= {"string", "integer"} and len(kinds) == 1:
            return {"type": kinds.pop(), "enum": values}, None if origin is Literal else hint
    if origin is tuple and arguments == (str, ...):
        return {"type": "array", "items": {"type": "string"}}, tuple
    for kind, of in (("boolean", bool), ("integer", int), ("number", float), ("string", str)):
        if hint is of:
            return {"type": kind}, None
    raise TypeError(f"option `{name}`: no option has the type {hint}")
