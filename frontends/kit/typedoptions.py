"""Typed options: a frontend declares a dataclass, and gets reading, checking, schema and help.

>>> @dataclass(frozen=True)
... class Options:
...     jobs: int = option(4, help="how many at once", minimum=1)
...     keep_symbols: bool = option(False, help="do not strip")

A user gives `--opt keep-symbols=true`, or, from clients that know no `--opt`,
`--build-arg KEEP_SYMBOLS=true`.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass
from enum import Enum
from typing import Any, Final, Literal, TypeVar

from torana.frontends.kit.options import InvalidOptionError
from torana.frontends.kit.suggest import suggest
from torana.frontends.kit.values import csv_fields, parse_bool, parse_int

T = TypeVar("T")

_BUILD_ARG: Final = "build-arg:"
_KIND_WORDS: Final = {"boolean": "true or false", "integer": "a whole number", "array": "a list"}


def option(
    default: Any = MISSING,
    *,
    help: str = "",
    minimum: int | None = None,
    maximum: int | None = None,
    pattern: str = "",
) -> Any:
    """Declare a field of an options class; without a default it must be given."""
    limits = {"help": help, "minimum": minimum, "maximum": maximum, "pattern": pattern}
    return dataclasses.field(default=default, metadata={"torana": limits}, kw_only=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionSpec:
    """One option: `name` as users write it, and what its values are."""

    name: str  # with dashes
    field: str
    kind: str  # boolean, integer, string or array, as in JSON Schema
    help: str = ""
    default: Any = MISSING
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    pattern: str = ""
    make: Any = None  # what makes the value of a checked one

    @property
    def is_required(self) -> bool:
        return self.default is MISSING

    @property
    def build_arg(self) -> str:
        return self.field.upper()

    def shown_default(self) -> str:
        """Give the default as a user would write it, empty without one."""
        value = None if self.default is MISSING else self.default
        value = value.value if isinstance(value, Enum) else value
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, tuple):
            return ",".join(value)
        return "" if value is None else str(value)

    def schema(self) -> dict[str, Any]:
        """Give its JSON Schema."""
        found: dict[str, Any] = {"type": self.kind}
        if self.kind == "array":
            found["items"] = {"type": "string"}
        if self.help:
            found["description"] = self.help
        if self.choices:
            found["enum"] = list(self.choices)
        for name in ("minimum", "maximum"):
            if getattr(self, name) is not None:
                found[name] = getattr(self, name)
        if self.pattern:
            found["pattern"] = self.pattern
        if self.default is not MISSING and self.default is not None:
            value = self.default.value if isinstance(self.default, Enum) else self.default
            found["default"] = list(value) if isinstance(value, tuple) else value
        return found

    def read(self, text: str) -> Any:
        """Read a value.

        Raises:
            InvalidOptionError: it is none.
        """
        value: Any = text
        match self.kind:
            case "boolean":
                value = parse_bool(text)
            case "integer":
                try:
                    value = parse_int(text)
                except ValueError:
                    value = None
            case "array":
                value = tuple(csv_fields(text)) if text else ()
        if value is None:
            raise self._invalid(f"not {_KIND_WORDS[self.kind]}: `{text}`")
        if self.choices and text not in self.choices:
            near = suggest(text, self.choices)
            known = ", ".join(f"`{choice}`" for choice in self.choices)
            hint = None if near is None else f"did you mean `{near}`?"
            raise self._invalid(f"not one of {known}: `{text}`", hint)
        if self.minimum is not None and value < self.minimum:
            raise self._invalid(f"less than {self.minimum}: {text}")
        if self.maximum is not None and value > self.maximum:
            raise self._invalid(f"more than {self.maximum}: {text}")
        if self.pattern and not re.search(self.pattern, text):
            raise self._invalid(f"does not match `{self.pattern}`: `{text}`")
        return value if self.make is None else self.make(value)

    def _invalid(self, message: str, hint: str | None = None) -> InvalidOptionError:
        return InvalidOptionError(
            f"option `{self.name}`: {message}", hint=hint or self.help or None
        )


def specs_of(declared: type[Any] | None) -> Sequence[OptionSpec]:
    """Give the options that a dataclass declares.

    Raises:
        TypeError: a field has a type that no option can have.
    """
    if declared is None:
        return ()
    hints = typing.get_type_hints(declared)
    return [_spec(field, hints[field.name]) for field in dataclasses.fields(declared)]


def read_options(declared: type[T], given: Mapping[str, str]) -> T:
    """Read the options of a build.

    Raises:
        InvalidOptionError: a value is not of its type, or a required one is missing.
    """
    values: dict[str, Any] = {}
    for spec in specs_of(declared):
        text = given.get(spec.name, given.get(_BUILD_ARG + spec.build_arg))
        if text is not None:
            values[spec.field] = spec.read(text)
        elif spec.is_required:
            raise InvalidOptionError(
                f"option `{spec.name}` is missing",
                hint=f"`--opt {spec.name}=...`" + (f": {spec.help}" if spec.help else ""),
            )
    return declared(**values)


def schema_of(declared: type[Any] | None) -> dict[str, Any]:
    """Give the JSON Schema of options, as `torana-frontend.json` has it."""
    specs = specs_of(declared)
    found: dict[str, Any] = {
        "type": "object",
        "properties": {spec.name: spec.schema() for spec in specs},
    }
    required = [spec.name for spec in specs if spec.is_required]
    return {**found, "required": required} if required else found


def help_of(declared: type[Any] | None) -> str:
    """Give the options as a text for people."""
    from torana.frontends.kit.subrequests import table

    rows = [("OPTION", "TYPE", "DEFAULT", "BUILD ARG", "DESCRIPTION")]
    for spec in specs_of(declared):
        kind = "|".join(spec.choices) or spec.kind
        default = "(required)" if spec.is_required else spec.shown_default()
        rows.append((spec.name, kind, default, spec.build_arg, spec.help))
    return table(rows, gap=2)


def _spec(field: dataclasses.Field[Any], hint: Any) -> OptionSpec:
    said = dict(field.metadata.get("torana", {}))
    kind, choices, make = _kind(field.name, hint)
    return OptionSpec(
        name=field.name.replace("_", "-"),
        field=field.name,
        kind=kind,
        default=field.default,
        choices=choices,
        make=make,
        **said,
    )


def _kind(name: str, hint: Any) -> tuple[str, tuple[str, ...], Any]:
    """Give the kind of values, the choices, and what makes a value."""
    arguments = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType) and type(None) in arguments:
        (hint,) = (part for part in arguments if part is not type(None))
        return _kind(name, hint)
    if origin is Literal:
        return "string", tuple(str(value) for value in arguments), None
    if origin is tuple and arguments == (str, ...):
        return "array", (), None
    if isinstance(hint, type):
        if issubclass(hint, Enum):
            return "string", tuple(str(member.value) for member in hint), hint
        for kind, of in (("boolean", bool), ("integer", int), ("string", str)):
            if hint is of:
                return kind, (), None
    raise TypeError(f"option `{name}`: no option has the type {hint}")
