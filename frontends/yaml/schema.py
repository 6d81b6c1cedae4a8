"""The JSON Schema of build files: as it is published, and as validation reads it.

Editors get `build.schema.json` as it is. Validation works on a copy without references, in which a
step is a keyword of its own: its verb picks the definition that the step is held against.

Spec: JSON Schema, draft 2020-12.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

STEP_KEYWORD: Final = "x-step"
_DEFS: Final = "#/$defs/"
_COMMON: Final = ("name", "if")


def schema_text() -> str:
    """Give the schema of build files as JSON."""
    return files(__package__).joinpath("build.schema.json").read_text("utf-8")


@cache
def public_schema() -> Mapping[str, Any]:
    schema: Mapping[str, Any] = json.loads(schema_text())
    return schema


@cache
def verbs() -> Mapping[str, Mapping[str, Any]]:
    """Give one flat definition of a step per verb; keys are the verbs."""
    defs = public_schema()["$defs"]
    common = {name: defs["stepObject"]["properties"][name] for name in _COMMON}
    found: dict[str, Mapping[str, Any]] = {}
    for rule in defs["stepObject"]["allOf"]:
        (verb,) = rule["if"]["required"]
        definition = defs[rule["then"]["$ref"].removeprefix(_DEFS)]
        properties = dict(common)
        for part in (*definition.get("allOf", ()), definition):
            part = defs[part["$ref"].removeprefix(_DEFS)] if "$ref" in part else part
            properties |= part.get("properties", {})
        rest = {key: value for key, value in definition.items() if key not in ("allOf",)}
        flat = {**rest, "properties": properties, "additionalProperties": False}
        properties.setdefault(verb, {"type": "string"})
        found[verb] = _resolved(flat, defs)
    return found


@cache
def file_schema() -> Mapping[str, Any]:
    """Give the schema that whole files are held against, without references."""
    schema = public_schema()
    defs = dict(schema["$defs"])
    defs["step"] = {STEP_KEYWORD: True}
    resolved = _resolved({k: v for k, v in schema.items() if k not in ("$defs", "$id")}, defs)
    assert isinstance(resolved, dict)
    return resolved


def _resolved(schema: Any, defs: Mapping[str, Any]) -> Any:
    """Replace references by what they name; no definition names itself."""
    if isinstance(schema, list):
        return [_resolved(item, defs) for item in schema]
    if not isinstance(schema, dict):
        return schema
    rest = {key: _resolved(value, defs) for key, value in schema.items() if key != "$ref"}
    if "$ref" not in schema:
        return rest
    return {**_resolved(defs[schema["$ref"].removeprefix(_DEFS)], defs), **rest}
