"""`validate`: hold a file against the schema, and say what is wrong in a person's words.

jsonschema finds the errors. Of a choice (`oneOf`) it tells all branches apart; here the branch that
was meant is picked by the type of the value and its keys, and only its complaint is told, at the
place of the node, with the nearest word where one may be misspelled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from torana.core.errors import BuildFileError
from torana.frontends.kit.suggest import suggest
from torana.frontends.kit.yamltree import Items, Mark, Node, Scalar, Table, plain
from torana.frontends.yaml.schema import STEP_KEYWORD, file_schema, verbs

_CHOICES: Final = frozenset(("oneOf", "anyOf"))
_TYPES: Final = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing",
}
_FORMS: Final = {  # patterns of the schema, for people
    "^0?[0-7]{3,4}$": "an octal mode such as 0755",
    "^sha256:[0-9a-f]{64}$": "`sha256:` and 64 hexadecimal digits",
    "^((sha256:)?[0-9a-f]{64}|\\$\\{\\{.+\\}\\})$": "64 hexadecimal digits",
    "^[0-9a-f]{40}$": "a whole commit, 40 hexadecimal digits",
    "^([0-9a-f]{40}|\\$\\{\\{.+\\}\\})$": "a whole commit, 40 hexadecimal digits",
    "^(/|\\$\\{\\{)": "an absolute path",
    "^https://": "an address that begins with https://",
    "^(https?://|\\$\\{\\{)": "an address that begins with https:// or http://",
    "^[a-z0-9][a-z0-9._-]*$": "a name of lower-case letters, digits, `.`, `_` and `-`",
    "^[a-z0-9][a-z0-9._/-]*$": "a name of lower-case letters, digits, `.`, `_`, `/` and `-`",
    "^[A-Za-z_][A-Za-z0-9_]*$": "a name of letters, digits and `_`",
    "^[^=]+$": "a name without `=`",
    "^[^:]+(:[^:]+)?(:rw)?$": "`source[:target][:rw]`",
    "^[0-9]+(-[0-9]+)?(/(tcp|udp|sctp))?$": "a port such as 8080 or 53/udp",
}


def validate(root: Table) -> None:
    """Check a file.

    Raises:
        BuildFileError: the first error in the order of the file.
    """
    errors = [_located(root, error) for error in _validator().iter_errors(plain(root))]
    if errors:
        raise min(errors, key=_position)


def _position(error: BuildFileError) -> tuple[int, int]:
    assert error.at is not None
    return error.at.start.line, error.at.start.column


@cache
def _validator() -> Any:
    kind: Any = extend(Draft202012Validator, {STEP_KEYWORD: _check_step})  # type: ignore[no-untyped-call]  # of jsonschema
    return kind(file_schema())


def _check_step(
    validator: Any, _: Any, instance: Any, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if isinstance(instance, str):
        return
    if not isinstance(instance, dict):
        yield ValidationError(f"a step is text or a mapping, not {_kind(instance)}")
        return
    found = [verb for verb in verbs() if verb in instance]
    if len(found) == 1:
        yield from validator.descend(instance, verbs()[found[0]])
    elif found:
        named = " and ".join(f"`{verb}`" for verb in found)
        yield ValidationError(f"a step does one thing, not several: {named}", path=())
    else:
        near = next(((key, verb) for key in instance if (verb := suggest(key, verbs()))), None)
        yield ValidationError(
            "a step without a verb",
            cause=None if near is None else _Hint(f"did you mean `{near[1]}`?", near[0]),
        )


class _Hint(Exception):
    """Carries a hint, and the key that it is about, in the cause of a validation error."""

    def __init__(self, hint: str, key: str) -> None:
        super().__init__(hint)
        self.hint = hint
        self.key = key


def _located(root: Table, error: Any) -> BuildFileError:
    error = _meant(error)
    path = list(error.absolute_path)
    node, mark = _find(root, path)
    what = f"`{path[-1]}`" if path and isinstance(path[-1], str) else ""
    match error.validator:
        case "additionalProperties":
            return _unknown_key(node, error, path)
        case "required":
            return _missing_key(node, error, path)
        case "not" | "pattern" if "propertyNames" in list(error.absolute_schema_path)[-3:]:
            return _bad_name(node, error)
        case "type":
            return _wrong_type(mark, what, error)
        case "enum":
            return _not_listed(mark, what, error)
        case "const":
            wanted = str(error.validator_value).lower()
            return mark.error(f"{what or 'the value'} must be {wanted}")
        case "pattern":
            form = _FORMS.get(error.validator_value, f"of the form {error.validator_value}")
            return mark.error(f"{what or 'the value'} must be {form}: `{_short(error.instance)}`")
        case "not":
            return _excluded(node, mark, what, error)
        case "minItems" | "minProperties" | "minLength":
            return mark.error(f"{what or 'the value'} is empty")
        case "minimum":
            return mark.error(f"{what or 'the value'} must be {error.validator_value} or more")
        case "oneOf" | "anyOf":
            return _choice(node, mark, what, error)
    hint = None
    if isinstance(error.cause, _Hint):
        hint = error.cause.hint
        assert isinstance(node, Table)
        mark = node.key(error.cause.key)
    elif "without a verb" in error.message:
        hint = f"verbs are {', '.join(verbs())}"
    return mark.error(error.message, hint=hint)


def _find(root: Table, path: Sequence[str | int]) -> tuple[Node, Mark]:
    """Give the node at a path, and the place to point at: of collections the key."""
    node: Node = root
    mark = root.mark
    for part in path:
        if isinstance(node, Table):
            entry = node.entries[str(part)]
            node, mark = entry.node, entry.key.mark
        else:
            assert isinstance(node, Items) and isinstance(part, int)
            node = node.items[part]
            mark = node.mark
    is_text = isinstance(node, Scalar) and node.text
    return node, node.mark if is_text else mark


def _meant(error: Any) -> Any:
    """Follow choices to the complaint of the branch that was meant; the choice if none was."""
    while error.validator in _CHOICES and error.context:
        branches: dict[Any, list[ValidationError]] = defaultdict(list)
        for each in error.context:
            branches[each.schema_path[0]].append(each)
        fitting = [found for found in branches.values() if not any(map(_is_other_kind, found))]
        if not fitting or all(_only_requires(branch) for branch in error.validator_value):
            return error
        best = min(fitting, key=_distance)
        error = min(best, key=lambda each: (each.validator != "additionalProperties",))
    return error


def _is_other_kind(error: Any) -> bool:
    return not error.relative_path and error.validator in ("type", "const")


def _only_requires(branch: Any) -> bool:
    return isinstance(branch, dict) and set(branch) == {"required"}


def _distance(errors: Iterable[Any]) -> tuple[int, int, int]:
    """Rank a branch: unknown keys, then missing ones, then everything else."""
    errors = list(errors)
    unknown = sum(len(_extra(e)) for e in errors if e.validator == "additionalProperties")
    missing = sum(e.validator == "required" for e in errors)
    return unknown, missing, len(errors)


def _extra(error: Any) -> list[str]:
    schema = error.schema
    assert isinstance(schema, dict)
    known = set(schema.get("properties", ()))
    prefixed = tuple(p.removeprefix("^") for p in schema.get("patternProperties", ()))
    return [
        name
        for name in error.instance
        if name not in known and not (prefixed and name.startswith(prefixed))
    ]


def _unknown_key(node: Node, error: Any, path: Sequence[str | int]) -> BuildFileError:
    assert isinstance(node, Table) and isinstance(error.schema, dict)
    name = min(_extra(error), key=lambda each: _start(node.key(each)))
    known = list(error.schema.get("properties", ()))
    near = suggest(name, known)
    if near is None:
        shown = [each for each in known if each not in node]
        hint = f"known are {', '.join(shown)}" if shown else None
    else:
        hint = f"did you mean `{near}`?"
    return node.key(name).error(f"unknown key: `{_short(name)}`", hint=hint)


def _start(mark: Mark) -> tuple[int, int]:
    return mark.line, mark.column


def _missing_key(node: Node, error: Any, path: Sequence[str | int]) -> BuildFileError:
    assert isinstance(node, Table)
    name = next(each for each in error.validator_value if each not in error.instance)
    verb = next((verb for verb in verbs() if verb in node), None)
    where = node.key(verb) if verb else _head(node)
    of = f"`{verb}`" if verb else f"`{path[-1]}`" if path and isinstance(path[-1], str) else ""
    hint = _misspelt(error.instance, (name,))
    return where.error(f"{of or ('the mapping' if path else 'the file')} needs `{name}`", hint=hint)


def _misspelt(keys: Iterable[str], wanted: Sequence[str]) -> str | None:
    """Say which key may be one that is missing."""
    for key in keys:
        if (near := suggest(key, wanted)) is not None:
            return f"`{key}` is there: did you mean `{near}`?"
    return None


def _head(node: Table) -> Mark:
    first = next(iter(node.entries.values()), None)
    return node.mark if first is None else first.key.mark


def _bad_name(node: Node, error: Any) -> BuildFileError:
    assert isinstance(node, Table)
    name = str(error.instance)
    mark = node.key(name)
    if error.validator == "not":
        return mark.error(f"the name is taken: `{name}`")
    form = _FORMS.get(str(error.validator_value), f"of the form {error.validator_value}")
    return mark.error(f"a key here must be {form}: `{_short(name)}`")


def _wrong_type(mark: Mark, what: str, error: Any) -> BuildFileError:
    allowed = error.validator_value
    kinds = [allowed] if isinstance(allowed, str) else list(allowed)
    return _mismatch(mark, what, kinds, error.instance)


def _mismatch(mark: Mark, what: str, kinds: Sequence[str], value: Any) -> BuildFileError:
    wanted = " or ".join(dict.fromkeys(_TYPES.get(kind, kind) for kind in kinds))
    hint = None
    if "string" in kinds and isinstance(value, (int, bool)):
        hint = f'quote it to make it text: "{plain_text(value)}"'
    return mark.error(f"{what or 'the value'} must be {wanted}, not {_kind(value)}", hint=hint)


def _kind(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case int():
            return f"the integer {value}"
        case str():
            return f"text: `{_short(value)}`"
        case list():
            return "a list"
    return "a mapping"


def _not_listed(mark: Mark, what: str, error: Any) -> BuildFileError:
    known = [str(each) for each in error.validator_value]
    value = str(plain_text(error.instance))
    near = suggest(value, known)
    hint = f"did you mean `{near}`?" if near else f"known are {', '.join(known)}"
    return mark.error(f"{what or 'the value'} cannot be `{_short(value)}`", hint=hint)


def plain_text(value: Any) -> str:
    """Give a value as it would be written."""
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def _excluded(node: Node, mark: Mark, what: str, error: Any) -> BuildFileError:
    refused = error.validator_value
    if "required" in refused and isinstance(node, Table):
        names = " and ".join(f"`{name}`" for name in refused["required"])
        return node.key(refused["required"][-1]).error(f"{names} exclude each other")
    return mark.error(f"{what or 'the name'} is taken: `{error.instance}`")


def _choice(node: Node, mark: Mark, what: str, error: Any) -> BuildFileError:
    branches = error.validator_value
    if all(_only_requires(branch) for branch in branches):
        if not isinstance(error.instance, dict):
            return _mismatch(mark, what, ["object"], error.instance)
        names = [name for branch in branches for name in branch["required"]]
        given = [name for name in names if name in error.instance]
        if len(given) > 1:
            assert isinstance(node, Table)
            both = " and ".join(f"`{name}`" for name in given)
            return node.key(given[-1]).error(f"{both} exclude each other")
        assert isinstance(node, Table)
        verb = next((verb for verb in verbs() if verb in node), None)
        where = node.key(verb) if verb else _head(node) if node.entries else mark
        wanted = " or ".join(f"`{name}`" for name in names)
        hint = _misspelt(error.instance, names)
        return where.error(
            f"{f'`{verb}`' if verb else what or 'the mapping'} needs {wanted}", hint=hint
        )
    kinds: list[str] = []
    for branch in branches:
        allowed = plain_text(branch["const"]) if "const" in branch else branch.get("type", ())
        kinds += [allowed] if isinstance(allowed, str) else list(allowed)
    return _mismatch(mark, what, kinds, error.instance)


def _short(value: Any) -> str:
    text = plain_text(value)
    text = text.split("\n", 1)[0]
    return text if len(text) <= 60 else f"{text[:57]}..."
