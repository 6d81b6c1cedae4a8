"""`sources_policy`: lists of sources that are allowed and denied, as rules of BuildKit's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from torana.core.errors import UserError
from torana.core.llb.policy import Action, Rule, Selector, SourcePolicy
from torana.plugins.schemas import first_problem

_PATTERNS: Final = {"type": "array", "items": {"type": "string", "minLength": 1}}
_SCHEMA: Final = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"allow": _PATTERNS, "deny": _PATTERNS},
}
_OWN: Final = "local://*"  # the client's folders are what it chose to send


def sources_policy(settings: Mapping[str, Any]) -> SourcePolicy:
    """Give a policy that lets through what `allow` matches (without it: all), less `deny`.

    Patterns are of identifiers (`git://*`), or of images by their full names
    (`docker.io/library/*`); a star stands for any text.

    Raises:
        UserError: the settings are malformed.
    """
    problem = first_problem(dict(settings), _SCHEMA)
    if problem is not None:
        raise UserError(f"policies.sources: {problem[0]}", hint=problem[1])
    rules = []
    if "allow" in settings:
        rules = [_rule(Action.DENY, "*"), _rule(Action.ALLOW, _OWN)]
        rules += [_rule(Action.ALLOW, pattern) for pattern in settings["allow"]]
    rules += [_rule(Action.DENY, pattern) for pattern in settings.get("deny", ())]
    return SourcePolicy(rules=tuple(rules))


def _rule(action: Action, pattern: str) -> Rule:
    is_image = "://" not in pattern and pattern != "*"
    identifier = f"docker-image://{pattern}" if is_image else pattern
    return Rule(action=action, selector=Selector(identifier=identifier))
