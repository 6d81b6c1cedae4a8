"""Filters of cache records."""

from __future__ import annotations

import pytest

from torana.core.cache.filters import InvalidFilterError, parse_filters

RECORD = {"id": "abc", "type": "exec.cachemount", "description": 'mount, "x"', "mutable": ""}


@pytest.mark.parametrize(
    ("filters", "is_match"),
    [
        ([], True),
        ([""], True),
        (["id==abc"], True),
        (["id==ab"], False),
        (["id!=ab"], True),
        (["parents!=x"], True),  # absent differs from everything
        (["parents==x"], False),
        (["id~=^a.c$"], True),
        (["id~=b"], True),
        (["id~=^b"], False),
        (["type==exec.cachemount"], True),
        (["mutable"], True),
        (["shared"], False),
        (["mutable,id==abc"], True),
        (["mutable,id==x"], False),
        (["id==x", "mutable"], True),
        (["id==x", "shared"], False),
        (['description=="mount, \\"x\\""'], True),
        (["description~=/mount, ./"], True),
        (["description~=|t, .|,mutable"], True),
        (['"id"==abc'], True),
        (["unknown"], False),
    ],
)
def test_matching(filters: list[str], is_match: bool) -> None:
    assert parse_filters(filters)(RECORD.get) is is_match


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("id=abc", "unsupported operator `=` at column 4"),
        ("==x", "expected a field at column 1"),
        ("id==", "expected a value at column 5"),
        ("id==a b", "unexpected input at column 6"),
        ("id==a,", "expected a field at column 7"),
        ("id~=(", "invalid pattern: missing ), unterminated subpattern"),
    ],
)
def test_mistakes_are_told_with_their_place(text: str, problem: str) -> None:
    with pytest.raises(InvalidFilterError) as caught:
        parse_filters(["mutable", text])
    assert problem in caught.value.message
    assert text in caught.value.message
