"""`parse_policy`: a source policy from JSON, as `buildctl --source-policy-file` reads it.

Spec: reference of sources, section 9; the JSON form of protobuf messages: enums by name or number,
field names in either spelling, `int64` also as text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, TypeVar

from torana.core.llb.policy import (
    Action,
    Condition,
    Constraint,
    InvalidPolicyError,
    MatchType,
    Rule,
    Selector,
    SourcePolicy,
    Update,
)

E = TypeVar("E", bound=IntEnum)
T = TypeVar("T")


def parse_policy(text: str | bytes, name: str) -> SourcePolicy:
    """Read a policy; `name` is the file's, for errors.

    Raises:
        InvalidPolicyError: it is no policy.
    """
    try:
        tree = json.loads(text)
    except ValueError as err:
        raise InvalidPolicyError(f"{name}: no JSON: {err}") from None
    try:
        members = _members(tree, "version", "rules")
        return SourcePolicy(
            version=int(members.get("version", 0)), rules=_each(members.get("rules"), _rule)
        )
    except (ValueError, TypeError) as err:
        raise InvalidPolicyError(f"{name}: {err}") from None


def _members(tree: Any, *known: str) -> Mapping[str, Any]:
    """Give the members of an object under their own names, without those that are null."""
    if not isinstance(tree, dict):
        raise TypeError(f"an object is wanted: `{json.dumps(tree)[:80]}`")
    names = {name.replace("_", ""): name for name in known}
    found = {}
    for key, member in tree.items():
        name = names.get(key.replace("_", "").lower())
        if name is None:
            raise ValueError(f"unknown field: `{key}`")
        if member is not None:
            found[name] = member
    return found


def _each(tree: Any, read: Callable[[Any], T]) -> tuple[T, ...]:
    if tree is None:
        return ()
    if not isinstance(tree, list):
        raise TypeError(f"a list is wanted: `{json.dumps(tree)[:80]}`")
    return tuple(read(item) for item in tree)


def _rule(tree: Any) -> Rule:
    members = _members(tree, "action", "selector", "updates")
    updates = members.get("updates")
    return Rule(
        action=_enum(members.get("action", 0), Action),
        selector=_selector(members.get("selector", {})),
        update=None if updates is None else _update(updates),
    )


def _selector(tree: Any) -> Selector:
    members = _members(tree, "identifier", "match_type", "constraints")
    return Selector(
        identifier=_text(members.get("identifier", "")),
        match_type=_enum(members.get("match_type", 0), MatchType),
        constraints=_each(members.get("constraints"), _constraint),
    )


def _constraint(tree: Any) -> Constraint:
    members = _members(tree, "key", "value", "condition")
    return Constraint(
        key=_text(members.get("key", "")),
        value=_text(members.get("value", "")),
        condition=_enum(members.get("condition", 0), Condition),
    )


def _update(tree: Any) -> Update:
    members = _members(tree, "identifier", "attrs")
    attrs = members.get("attrs", {})
    if not isinstance(attrs, dict):
        raise TypeError("attrs must be an object")
    return Update(
        identifier=_text(members.get("identifier", "")),
        attrs={key: _text(each) for key, each in attrs.items()},
    )


def _text(tree: Any) -> str:
    if not isinstance(tree, str):
        raise TypeError(f"text is wanted: `{json.dumps(tree)[:80]}`")
    return tree


def _enum(tree: Any, kind: type[E]) -> E:
    if isinstance(tree, str) and tree in kind.__members__:
        return kind[tree]
    if isinstance(tree, int) and tree in list(kind):
        return kind(tree)
    raise ValueError(f"must be one of {', '.join(kind.__members__)}: `{tree}`")
