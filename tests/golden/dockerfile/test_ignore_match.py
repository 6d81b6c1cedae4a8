"""Measured matches of `.dockerignore` patterns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from torana.core.patterns import InvalidPatternError, PatternMatcher

FIXTURES = Path(__file__).resolve().parents[2] / "data" / "dockerfile"
TABLE = FIXTURES / "measured" / "ignore-match.json"
DATA: dict[str, Any] = json.loads(TABLE.read_bytes())


@pytest.mark.parametrize("row", DATA["cases"], ids=lambda row: row["id"])
def test_match(row: dict[str, Any]) -> None:
    if "error" in row:
        with pytest.raises(InvalidPatternError) as caught:
            PatternMatcher(row["patterns"])
        assert caught.value.message == row["error"]
        return
    matcher = PatternMatcher(row["patterns"])
    assert matcher.has_exclusions == row["exclusions"]
    assert [path for path in DATA["paths"] if matcher.matches(path)] == row["excluded"]
