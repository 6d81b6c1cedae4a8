"""Our Dockerfile frontend against the recorded behaviour of the original, case by case.

Strictest first: op digests per solve, then metadata and locations, result metadata byte for byte,
resolves, warnings and errors.
"""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

import pytest
from tests.golden.llb.golden import GOLDEN_DIR, Case, Observed, cases, expected_report

FOLDERS = cases()


def test_cases_exist() -> None:
    assert FOLDERS, f"no golden cases in {GOLDEN_DIR}"


@pytest.mark.parametrize("folder", [pytest.param(path, id=path.name) for path in FOLDERS])
async def test_golden(folder: Path) -> None:
    case = Case.load(folder)
    observed = await Observed.of(case.client())
    actual, expected = observed.report(), expected_report(case.expected)
    if observed.error is not None and "error" not in expected:
        raise observed.error
    for key, wanted in expected.items():
        if key == "solves":
            _compare_solves(actual["solves"], wanted)
        elif key == "warnings":
            _compare(key, _settled(actual.get(key)), _settled(wanted))
        else:
            _compare(key, actual.get(key), wanted)
    assert sorted(actual) == sorted(expected)


def _settled(warnings: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    """Sort runs of UndefinedVar at one place, which come in any order."""
    if warnings is None:
        return None

    def order(entry: tuple[int, dict[str, Any]]) -> tuple[int, str]:
        index, warning = entry
        if not warning["short"].startswith("UndefinedVar:"):
            return index, ""
        first = next(
            at
            for at, other in enumerate(warnings)
            if other["lines"] == warning["lines"] and other["short"].startswith("UndefinedVar:")
        )
        return first, warning["short"]

    return [warning for _, warning in sorted(enumerate(warnings), key=order)]


def _compare_solves(actual: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    for mine, theirs in zip(actual, expected, strict=False):
        where = f"solve {theirs['index']}"
        _compare(f"{where}: ops", *(_ops(solve, "digest", "op") for solve in (mine, theirs)))
        _compare(where, mine, theirs)
    _compare("solves", len(actual), len(expected))


def _ops(solve: dict[str, Any], *keys: str) -> list[dict[str, Any]]:
    return [{key: op[key] for key in keys} for op in solve.get("ops") or ()]


def _compare(name: str, actual: Any, expected: Any) -> None:
    if actual != expected:
        diff = difflib.unified_diff(_text(expected), _text(actual), "expected", "actual", n=6)
        pytest.fail(f"{name} differs:\n" + "\n".join(diff), pytrace=False)


def _text(value: Any) -> list[str]:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).split("\n")
