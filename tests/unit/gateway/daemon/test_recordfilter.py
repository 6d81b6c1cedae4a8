"""Filters of build records."""

from __future__ import annotations

import pytest

from torana.gateway.daemon.record import BuildRecord
from torana.gateway.daemon.recordfilter import InvalidFilterError, parse_filters

HOUR = 3600.0
NOW = 1_700_000_000.0
RECORDS = {
    "good": BuildRecord(ref="good", created=NOW - HOUR, completed=NOW - HOUR / 2),
    "bad": BuildRecord(ref="bad", created=NOW - 60, completed=NOW - 1, error=(2, "no")),
    "stopped": BuildRecord(ref="stopped", created=NOW - 60, completed=NOW, error=(1, "canceled")),
    "running": BuildRecord(
        ref="running",
        created=NOW - 2 * HOUR,
        frontend_attrs={"context": "https://example.org/a.git#main:sub"},
    ),
}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], "good bad stopped running"),
        ([""], "good bad stopped running"),
        (["status==error"], "bad"),
        (["status == running"], "running"),
        (["status==canceled", "ref==good"], "good stopped"),
        (["status!=running,ref~=^[gb]"], "good bad"),
        (['ref=="good"'], "good"),
        (["repository==https://example.org/a.git"], "running"),
        (["startedAt>30m"], "bad stopped"),
        (["startedAt<=90m"], "running"),
        (["completedAt<10m"], "good"),
        (["duration>=30m"], "good running"),
        (["startedAt<2023-11-14T20:15:00Z"], "running"),
    ],
)
def test_filters(filters: list[str], expected: str) -> None:
    matches = parse_filters(filters, now=NOW)
    assert [ref for ref, record in RECORDS.items() if matches(record)] == expected.split()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("status", "invalid filter"),
        ("colour==red", "unknown field in filter: `colour`"),
        ("status>5", "`>` does not go with `status`"),
        ("duration==5s", "`==` does not go with `duration`"),
        ("ref~=[", "invalid pattern in filter"),
        ("startedAt>yesterday", "invalid time in filter"),
        ("duration>long", "invalid duration: `long`"),
    ],
)
def test_wrong_filters(text: str, message: str) -> None:
    with pytest.raises(InvalidFilterError, match=message):
        parse_filters([text], now=NOW)
