"""Documents against a JSON Schema, and what is wrong with them in words of ours."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any


def load_schema(package: str, filename: str) -> Any:
    """Read a schema that lies in a package."""
    return json.loads((resources.files(package) / filename).read_text())


def first_problem(document: Any, schema: Mapping[str, Any]) -> tuple[str, str | None] | None:
    """Give a message and perhaps a hint for the first thing that is wrong, None if all is well."""
    from jsonschema import Draft202012Validator

    problems = list(Draft202012Validator(schema).iter_errors(document))
    if not problems:
        return None
    first = min(problems, key=lambda problem: [str(part) for part in problem.absolute_path])
    return _describe(first)


def _describe(problem: Any) -> tuple[str, str | None]:
    path = ".".join(str(part) for part in problem.absolute_path)
    if problem.validator == "additionalProperties":
        known = list(problem.schema.get("properties", {}))
        unknown = sorted(set(problem.instance) - set(known))[0]
        name = f"{path}.{unknown}" if path else unknown
        return f"unknown key: `{name}`", _suggestion(unknown, known)
    match problem.validator:
        case "type":
            wanted = problem.validator_value
            kinds = wanted if isinstance(wanted, str) else " or ".join(wanted)
            return f"{path}: must be of type {kinds}: `{problem.instance}`", None
        case "enum":
            values = ", ".join(f"`{value}`" for value in problem.validator_value)
            return f"{path}: unknown value: `{problem.instance}`", f"known: {values}"
        case _:
            return f"{path}: {problem.message}", None


def _suggestion(unknown: str, known: list[str]) -> str | None:
    by_folded = {key.casefold().replace("-", "").replace("_", ""): key for key in known}
    folded = unknown.casefold().replace("-", "").replace("_", "")
    close = difflib.get_close_matches(folded, by_folded, n=1, cutoff=0.6)
    return f"did you mean `{by_folded[close[0]]}`?" if close else None
