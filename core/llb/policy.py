"""`SourcePolicy`: rules that allow, deny or change the sources of a build. Pure.

Spec: BuildKit's source policies; reference of sources, section 9.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from enum import IntEnum
from functools import cache
from typing import Final, Protocol

from torana.core.errors import UserError
from torana.core.llb.ops import SourceOp
from torana.core.records import dataclass

_MAX_CONVERSIONS: Final = 20
_GROUP: Final = re.compile(r"\$(?:(\$)|(\w+)|\{(\w+)\})")


class SourceDeniedError(UserError):
    """A policy does not allow a source; `reasons` are what somebody who was asked says."""

    code = "SOURCE_DENIED"
    reasons: Sequence[str] = ()


class InvalidPolicyError(UserError):
    """A policy says what cannot be understood."""

    code = "SOURCE_POLICY_INVALID"


class Action(IntEnum):
    """What is done with a source; numbers as on the wire."""

    ALLOW = 0
    DENY = 1
    CONVERT = 2


class MatchType(IntEnum):
    """How an identifier is compared; numbers as on the wire."""

    WILDCARD = 0
    EXACT = 1
    REGEX = 2


class Condition(IntEnum):
    """How an attribute is compared; numbers as on the wire."""

    EQUAL = 0
    NOTEQUAL = 1
    MATCHES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """What must hold for one attribute; one that is not there counts as empty."""

    key: str
    value: str
    condition: Condition = Condition.EQUAL

    def holds(self, attrs: Mapping[str, str]) -> bool:
        found = attrs.get(self.key, "")
        match self.condition:
            case Condition.EQUAL:
                return found == self.value
            case Condition.NOTEQUAL:
                return found != self.value
            case Condition.MATCHES:
                return _regex(self.value).search(found) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """Which sources: `identifier` is a pattern for `SCHEME://REST`."""

    identifier: str
    match_type: MatchType = MatchType.WILDCARD
    constraints: tuple[Constraint, ...] = ()

    def matches(self, source: SourceOp) -> bool:
        """Compare; the same text matches whatever the type is.

        Raises:
            InvalidPolicyError: a pattern is malformed.
        """
        if not all(constraint.holds(source.attrs) for constraint in self.constraints):
            return False
        return self.identifier == source.identifier or self.groups(source.identifier) is not None

    def groups(self, identifier: str) -> Sequence[str | None] | None:
        """Give the whole match and what the parts of the pattern match, None for no match."""
        match self.match_type:
            case MatchType.EXACT:
                return None
            case MatchType.REGEX:
                found = _regex(self.identifier).search(identifier)
                return None if found is None else (found[0], *found.groups())
            case MatchType.WILDCARD:
                if "**" in self.identifier:
                    raise InvalidPolicyError(f'invalid wildcard "**": `{self.identifier}`')
                stars = _wildcards(self.identifier.split("*"), identifier)
                return None if stars is None else (identifier, *stars)


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What a source becomes: an empty identifier leaves it; `attrs` are added."""

    identifier: str = ""  # may use `$1` or `${1}` of the selector
    attrs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What is done with sources that are selected."""

    action: Action
    selector: Selector
    update: Update | None = None  # for conversions

    def converted(self, source: SourceOp) -> SourceOp:
        """Give what the source becomes.

        Raises:
            InvalidPolicyError: the rule does not say.
        """
        if self.update is None:
            raise InvalidPolicyError("missing destination for convert rule")
        identifier = source.identifier
        if self.update.identifier:
            identifier = self._expanded(self.update.identifier, identifier)
        attrs = {**source.attrs, **self.update.attrs}
        return replace(source, identifier=identifier, attrs=attrs)

    def _expanded(self, text: str, identifier: str) -> str:
        """Fill in groups; text that the selector names literally has none."""
        if self.selector.match_type is MatchType.EXACT:
            return text
        groups = self.selector.groups(identifier) or (identifier,)

        def group(found: re.Match[str]) -> str:
            name = found[2] or found[3]
            if name is None:
                return "$"
            number = int(name) if name.isdecimal() else -1
            return (groups[number] or "") if 0 <= number < len(groups) else ""

        return _GROUP.sub(group, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePolicy:
    """Rules in order: the last one that allows or denies counts."""

    rules: tuple[Rule, ...] = ()
    version: int = 0

    def apply(self, source: SourceOp) -> SourceOp:
        """Give the source, or what the first conversion makes of it.

        Raises:
            SourceDeniedError: it is not allowed.
            InvalidPolicyError: a rule is malformed.
        """
        is_denied = False
        for rule in self.rules:
            if not rule.selector.matches(source):
                continue
            if rule.action is Action.CONVERT:
                changed = rule.converted(source)
                if changed != source:
                    return changed
            else:
                is_denied = rule.action is Action.DENY
        if is_denied:
            raise SourceDeniedError(
                f'source "{source.identifier}" denied by policy: source denied by policy'
            )
        return source


class Policy(Protocol):
    """Decides about the sources of a build; `SourcePolicy` does it by rules.

    Conformance: `torana.plugins.testing.policies.PolicySuite`.
    """

    def apply(self, source: SourceOp) -> SourceOp:
        """Give `source` to allow it, or another one to take its place, which is then asked about.

        Called on the event loop for each source of each definition, images by their full names;
        must not block. A function of its argument: the same source gets the same answer.

        Raises:
            UserError: it is not allowed; the text says why.
        """
        ...


def apply_policies(policies: Sequence[Policy], source: SourceOp) -> SourceOp:
    """Give what all policies make of a source; after a conversion all are asked again.

    Raises:
        SourceDeniedError: one of them does not allow it.
        InvalidPolicyError: a rule is malformed, or they convert for ever.
    """
    for _ in range(_MAX_CONVERSIONS + 1):
        for policy in policies:
            changed = policy.apply(source)
            if changed != source:
                source = changed
                break
        else:
            return source
    raise InvalidPolicyError("too many mutations on a single source: too many operations")


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as err:
        raise InvalidPolicyError(f"invalid regex in source policy: `{pattern}`: {err}") from None


def _wildcards(literals: Sequence[str], text: str) -> list[str] | None:
    """Give what stands between `literals`, which begin and end the text; None if they do not.

    The first star takes as much as it can, then the second, as regular expressions do it; but in
    time that grows with the square of the text, whoever made the pattern.
    """
    if not text.startswith(literals[0]):
        return None
    if len(literals) == 1:
        return [] if text == literals[0] else None
    # From the back: the last place where each literal can begin so that all others fit behind it.
    starts, end = [0] * len(literals), len(text)
    for number in range(len(literals) - 1, 0, -1):
        literal = literals[number]
        is_last = number == len(literals) - 1
        start = end - len(literal) if is_last else text.rfind(literal, 0, end)
        if start < len(literals[0]) or not text.startswith(literal, start):
            return None
        starts[number] = end = start
    ends = [start + len(literal) for start, literal in zip(starts, literals, strict=True)]
    return [text[ends[i] : starts[i + 1]] for i in range(len(literals) - 1)]
