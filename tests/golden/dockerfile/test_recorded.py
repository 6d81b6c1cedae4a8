"""The acceptance list: what it says of text, LLB, configs and answers, as BuildKit does it.

Cases and how they are written: `recorded.py`. What needs a running build is in
`tests/integration/dockerfile`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.golden.dockerfile.recorded import FOLDER, Case, read_cases, summarize
from tests.golden.llb.golden import GOLDEN_DIR, Observed
from tests.golden.llb.golden import Case as GoldenCase

CASES = read_cases()
EXPECTED: list[dict[str, Any]] = json.loads((FOLDER / "expected.json").read_bytes())


def test_every_case_was_recorded() -> None:
    assert [case.name for case in CASES] == [entry["case"] for entry in EXPECTED]


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        pytest.param(case, entry["summary"], id=case.name)
        for case, entry in zip(CASES, EXPECTED, strict=False)
    ],
)
async def test_case(case: Case, expected: dict[str, Any], tmp_path: Path) -> None:
    assert GOLDEN_DIR.is_dir()
    (tmp_path / "context").mkdir()
    client = GoldenCase(tmp_path, case.request(tmp_path), {}).client()
    found = summarize(json.loads(json.dumps((await Observed.of(client)).report())))
    assert found == expected
