"""What servers say in `WWW-Authenticate`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torana.plugins.registry.challenge import Challenge, parse_challenges

CASES = [
    ("Basic", [Challenge("basic")]),
    ('Basic realm="a \\"b\\""', [Challenge("basic", {"realm": 'a "b"'})]),
    (
        'Bearer realm="https://a/t",service="s",scope="repository:x:pull,push"',
        [
            Challenge(
                "bearer",
                {"realm": "https://a/t", "service": "s", "scope": "repository:x:pull,push"},
            )
        ],
    ),
    (
        'BEARER Realm=https://a/t , Basic realm="b"',
        [Challenge("bearer", {"realm": "https://a/t"}), Challenge("basic", {"realm": "b"})],
    ),
    ("", []),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_challenges(text: str, expected: list[Challenge]) -> None:
    assert parse_challenges([text]) == expected


def test_several_headers() -> None:
    found = parse_challenges(["Negotiate", "Basic realm=x"])
    assert [challenge.scheme for challenge in found] == ["negotiate", "basic"]


@given(st.text(max_size=60))
def test_any_text_ends(text: str) -> None:
    parse_challenges([text])
