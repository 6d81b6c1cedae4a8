"""Golden definitions."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

_GOLDEN = Path(__file__).resolve().parents[3] / "data" / "llb-golden"


@dataclass(frozen=True)
class GoldenOp:
    """One row of `ops`: the bytes, and what the original said of them."""

    digest: str
    data: bytes
    json: dict[str, Any]
    metadata: dict[str, Any]
    locations: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]


@dataclass(frozen=True)
class GoldenSolve:
    """One definition of a case."""

    case: str
    index: int
    ops: tuple[GoldenOp, ...]
    missing_caps: frozenset[str]


@cache
def golden_solves() -> tuple[GoldenSolve, ...]:
    found = []
    for path in sorted(_GOLDEN.glob("*/golden.json")):
        golden = json.loads(path.read_bytes())
        case = json.loads((path.parent / "case.json").read_bytes())
        for solve in golden.get("solves") or ():
            rows = solve.get("ops") or []
            if rows:
                found.append(
                    GoldenSolve(
                        path.parent.name,
                        solve["index"],
                        tuple(_op(row) for row in rows),
                        frozenset(case.get("disabled_llb_caps") or ()),
                    )
                )
    return tuple(found)


def _op(row: dict[str, Any]) -> GoldenOp:
    locations = tuple(
        (place.get("source", 0), tuple((a, b) for a, b in place.get("lines") or ()))
        for place in row.get("locations") or ()
    )
    data = base64.b64decode(row["raw"])
    return GoldenOp(row["digest"], data, row["op"], row.get("metadata") or {}, locations)


@pytest.fixture(scope="session")
def solves() -> tuple[GoldenSolve, ...]:
    """All golden definitions that are not empty."""
    found = golden_solves()
    if not found:
        if os.environ.get("TORANA_TEST_REQUIRE"):
            pytest.fail("the golden cases are missing", pytrace=False)
        pytest.skip("the golden cases are missing")
    return found
