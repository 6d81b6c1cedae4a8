"""Source policies as messages, and back. Pure.

Spec: `sourcepolicy.proto`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torana.core.llb import policy
from torana.core.llb.policy import InvalidPolicyError, SourcePolicy
from torana.gateway.protocol import sourcepolicy_pb2


def policies_of(messages: Sequence[sourcepolicy_pb2.Policy]) -> list[SourcePolicy]:
    """Read source policies.

    Raises:
        InvalidPolicyError: one has values that are not known.
    """
    return [policy_of(message) for message in messages]


def policy_of(message: sourcepolicy_pb2.Policy) -> SourcePolicy:
    try:
        return SourcePolicy(
            version=message.version, rules=tuple(_rule(rule) for rule in message.rules)
        )
    except ValueError as err:
        raise InvalidPolicyError(f"source policy: {err}") from None


def _rule(message: sourcepolicy_pb2.Rule) -> policy.Rule:
    selector, updates = message.selector, message.updates
    return policy.Rule(
        action=policy.Action(message.action),
        selector=policy.Selector(
            identifier=selector.identifier,
            match_type=policy.MatchType(selector.match_type),
            constraints=tuple(
                policy.Constraint(
                    key=each.key, value=each.value, condition=policy.Condition(each.condition)
                )
                for each in selector.constraints
            ),
        ),
        update=policy.Update(identifier=updates.identifier, attrs=dict(updates.attrs))
        if message.HasField("updates")
        else None,
    )


def policy_message(found: SourcePolicy) -> sourcepolicy_pb2.Policy:
    message = sourcepolicy_pb2.Policy(version=found.version)
    for rule in found.rules:
        action: Any = int(rule.action)
        match_type: Any = int(rule.selector.match_type)
        added = message.rules.add(action=action)
        added.selector.identifier = rule.selector.identifier
        added.selector.match_type = match_type
        for each in rule.selector.constraints:
            condition: Any = int(each.condition)
            added.selector.constraints.add(key=each.key, value=each.value, condition=condition)
        if rule.update is not None:
            added.updates.identifier = rule.update.identifier
            added.updates.attrs.update(rule.update.attrs)
            added.updates.SetInParent()
    return message
