"""Source policies: which sources they let through, and as what."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torana.core.llb.ops import SourceOp
from torana.core.llb.policy import (
    Action,
    Condition,
    Constraint,
    InvalidPolicyError,
    MatchType,
    Rule,
    Selector,
    SourceDeniedError,
    SourcePolicy,
    Update,
    apply_policies,
)
from torana.core.llb.policyfile import parse_policy

ALPINE = "docker-image://docker.io/library/alpine:3.18"


def rule(
    action: Action, identifier: str, to: str | None = None, kind: MatchType = MatchType.WILDCARD
) -> Rule:
    update = None if to is None else Update(identifier=to)
    selector = Selector(identifier=identifier, match_type=kind)
    return Rule(action=action, selector=selector, update=update)


def applied(identifier: str, *rules: Rule) -> str:
    return apply_policies([SourcePolicy(rules=rules)], SourceOp(identifier=identifier)).identifier


def test_the_last_rule_that_matches_counts() -> None:
    everything, alpine = rule(Action.DENY, "*"), rule(Action.ALLOW, "docker-image://*/alpine:*")
    assert applied(ALPINE, everything, alpine) == ALPINE
    with pytest.raises(SourceDeniedError) as denied:
        applied(ALPINE, alpine, everything)
    assert str(denied.value) == (f'source "{ALPINE}" denied by policy: source denied by policy')
    assert applied(ALPINE) == ALPINE


def test_every_policy_must_allow() -> None:
    deny = SourcePolicy(rules=(rule(Action.DENY, ALPINE),))
    allow = SourcePolicy(rules=(rule(Action.ALLOW, "*"),))
    with pytest.raises(SourceDeniedError):
        apply_policies([allow, deny, allow], SourceOp(identifier=ALPINE))


@pytest.mark.parametrize(
    ("kind", "pattern", "to", "result"),
    [
        (MatchType.WILDCARD, "docker-image://*/library/*:*", "docker-image://m/$2:${3}-x", "3.18"),
        (MatchType.REGEX, r"library/(?P<n>[a-z]+):(.+)$", "docker-image://m/$1:${2}-x", "3.18"),
    ],
)
def test_parts_of_a_name_are_kept(kind: MatchType, pattern: str, to: str, result: str) -> None:
    stop = rule(Action.ALLOW, "docker-image://m/*")
    made = applied(ALPINE, rule(Action.CONVERT, pattern, to, kind), stop)
    assert made == f"docker-image://m/alpine:{result}-x"


def test_literal_names_and_dollars() -> None:
    exact = rule(Action.CONVERT, ALPINE, "docker-image://m/a", MatchType.EXACT)
    assert applied(ALPINE, exact) == "docker-image://m/a"
    assert applied(ALPINE + "x", exact) == ALPINE + "x"
    dollars = rule(Action.CONVERT, "http://a/*", "https://a/$$1$9$unknown${1}")
    assert applied("http://a/b", dollars) == "https://a/$1b"


def test_conversions_begin_again_and_end() -> None:
    chain = [rule(Action.CONVERT, f"http://{n}", f"http://{n + 1}") for n in range(20)]
    assert applied("http://0", *chain) == "http://20"
    with pytest.raises(InvalidPolicyError, match="too many operations"):
        applied("http://0", rule(Action.CONVERT, "http://*", "http://${1}x"))
    with pytest.raises(SourceDeniedError):
        applied("http://0", *chain, rule(Action.DENY, "http://20"))


def test_attributes() -> None:
    pin = Rule(
        action=Action.CONVERT,
        selector=Selector(
            identifier="https://*",
            constraints=(Constraint(key="http.checksum", value=""),),
        ),
        update=Update(attrs={"http.checksum": "sha256:1"}),
    )
    unnamed = Rule(
        action=Action.DENY,
        selector=Selector(
            identifier="https://*",
            constraints=(
                Constraint(key="http.filename", value="^safe-", condition=Condition.MATCHES),
                Constraint(key="http.checksum", value="", condition=Condition.NOTEQUAL),
            ),
        ),
    )
    policy = SourcePolicy(rules=(pin, unnamed))
    found = apply_policies([policy], SourceOp(identifier="https://a/b", attrs={"x": "y"}))
    assert found == SourceOp(
        identifier="https://a/b", attrs={"x": "y", "http.checksum": "sha256:1"}
    )
    with pytest.raises(SourceDeniedError):
        apply_policies(
            [policy], SourceOp(identifier="https://a/b", attrs={"http.filename": "safe-1"})
        )


@pytest.mark.parametrize(
    "bad",
    [
        rule(Action.DENY, "docker-image://**"),
        rule(Action.DENY, "(", kind=MatchType.REGEX),
        rule(Action.CONVERT, "*"),
    ],
)
def test_malformed_rules(bad: Rule) -> None:
    with pytest.raises(InvalidPolicyError):
        applied(ALPINE, bad)


@given(
    st.text("ab*", max_size=12).filter(lambda text: "**" not in text), st.text("ab", max_size=12)
)
def test_wildcards_are_regular_expressions(pattern: str, text: str) -> None:
    expression = re.escape(pattern).replace(r"\*", "(.*)")
    found = re.fullmatch(expression, text, re.DOTALL)
    groups = Selector(identifier=pattern).groups(text)
    assert groups == (None if found is None else (text, *found.groups()))


def test_wildcards_of_hostile_policies_take_no_time() -> None:
    assert Selector(identifier="*a" * 5000 + "b").groups("a" * 5000) is None


def test_files() -> None:
    text = json.dumps(
        {
            "version": "1",
            "rules": [
                {
                    "action": "CONVERT",
                    "selector": {
                        "identifier": "a",
                        "matchType": "EXACT",
                        "constraints": [{"key": "k", "value": "v", "condition": 2}],
                    },
                    "updates": {"identifier": "b", "attrs": {"c": "d"}},
                },
                {"selector": {"identifier": "x", "match_type": 2}, "updates": None},
            ],
        }
    )
    first, second = parse_policy(text, "p.json").rules
    assert first == Rule(
        action=Action.CONVERT,
        selector=Selector(
            identifier="a",
            match_type=MatchType.EXACT,
            constraints=(Constraint(key="k", value="v", condition=Condition.MATCHES),),
        ),
        update=Update(identifier="b", attrs={"c": "d"}),
    )
    assert (second.action, second.selector.match_type) == (Action.ALLOW, MatchType.REGEX)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"rule": []}',
        '{"rules": {}}',
        '{"rules": [{"action": "FORBID"}]}',
        '{"rules": [{"action": 3}]}',
        '{"rules": [{"selector": {"identifier": 1}}]}',
        '{"rules": [{"updates": {"attrs": []}}]}',
        '{"version": "x"}',
    ],
)
def test_files_that_are_no_policies(text: str) -> None:
    with pytest.raises(InvalidPolicyError, match=r"p\.json: "):
        parse_policy(text, "p.json")
