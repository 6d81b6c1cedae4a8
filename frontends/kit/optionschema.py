"""Options that a frontend declares as a JSON Schema.

The schema describes one object whose members are the options; jsonschema checks it whole, so that
`dependentRequired`, `if` and the like mean what they say. Nothing is fetched: a reference leads
into the same document.

Spec: JSON Schema, draft 2020-12 unless `$schema` names another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING
from typing import TYPE_CHECKING, Any, Final

from torana.core.errors import UserError
from torana.frontends.kit.options import InvalidOptionError
from torana.frontends.kit.optionspec import OptionSpec, spec_of

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator

_NAMELESS: Final = "patternProperties"


def schema_specs(schema: Mapping[str, Any]) -> Sequence[OptionSpec]:
    """Give the options of a schema, in its order.

    Raises:
        TypeError: it is not the schema of an object with named members.
    """
    members = schema.get("properties", {}) if isinstance(schema, Mapping) else None
    if not isinstance(members, Mapping) or schema.get("type", "object") != "object":
        raise TypeError("options are not declared as a JSON Schema of type object")
    if _NAMELESS in schema:
        raise TypeError(f"options need names: `{_NAMELESS}` declares none")
    return [spec_of(name, member, schema) for name, member in members.items()]


def read_values(
    schema: Mapping[str, Any], specs: Sequence[OptionSpec], texts: Mapping[str, str]
) -> dict[str, Any]:
    """Give all values by name, defaults too; those without one are left out.

    Raises:
        InvalidOptionError: a value is not as the schema says.
        TypeError: the schema is none, or a default does not fit it.
    """
    by_name = {spec.name: spec for spec in specs}
    values: dict[str, Any] = {
        spec.name: spec.default for spec in specs if spec.default not in (MISSING, None)
    }
    values |= {name: by_name[name].parse(text) for name, text in texts.items()}
    problem = _first(_validator(schema), values, list(by_name))
    if problem is not None:
        raise _refusal(problem, by_name, texts)
    return values


def _validator(schema: Mapping[str, Any]) -> Validator:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for
    from referencing.jsonschema import EMPTY_REGISTRY

    of = validator_for(schema, default=Draft202012Validator)
    try:
        of.check_schema(dict(schema))
    except SchemaError as err:
        where = ".".join(str(part) for part in err.absolute_path)
        raise TypeError(
            f"options are not declared as a JSON Schema: {where}: {err.message}"
        ) from err
    return of(dict(schema), registry=EMPTY_REGISTRY, format_checker=of.FORMAT_CHECKER)


def _first(
    validator: Validator, values: Mapping[str, Any], names: Sequence[str]
) -> ValidationError | None:
    """Give what is wrong with the first option that is wrong, in the schema's order."""
    from jsonschema.exceptions import best_match
    from referencing.exceptions import Unresolvable

    def rank(problem: ValidationError) -> tuple[int, list[str]]:
        path = [str(part) for part in problem.absolute_path]
        return (names.index(path[0]) if path else len(names), path)

    try:
        problems = sorted(validator.iter_errors(values), key=rank)
    except Unresolvable as err:
        raise TypeError(f"a `$ref` of the options leads nowhere: {err}") from err
    found: ValidationError | None = best_match(problems[:1])
    return found


def _refusal(
    problem: ValidationError, specs: Mapping[str, OptionSpec], texts: Mapping[str, str]
) -> UserError:
    path = list(problem.absolute_path)
    limit: Any = problem.validator_value
    if not path:
        return _refusal_of_all(problem, specs)
    spec = specs[str(path[0])]
    if spec.name not in texts and not texts:
        raise TypeError(f"option `{spec.name}`: the default does not fit: {problem.message}")
    where = "".join(
        f"item {part + 1}: " if isinstance(part, int) else f"`{part}`: " for part in path[1:]
    )
    return spec.breach(str(problem.validator), limit, problem.instance, where)


def _refusal_of_all(problem: ValidationError, specs: Mapping[str, OptionSpec]) -> UserError:
    """Say what is wrong with the options together."""
    given: Any = problem.instance
    limit: Any = problem.validator_value
    if problem.validator == "required":
        lacking = next(name for name in limit if name not in given)
        if lacking in specs:
            return specs[lacking].missing()
    if problem.validator == "dependentRequired":
        for name, needed in limit.items():
            lacking = next((each for each in needed if name in given and each not in given), None)
            if lacking in specs:
                return specs[str(lacking)].missing(f": `{name}` needs it")
    return InvalidOptionError(f"options do not go together: {problem.message}")
