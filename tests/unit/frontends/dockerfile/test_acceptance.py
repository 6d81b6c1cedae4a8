"""Each behaviour of the acceptance list is named by a test."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[3]
LAST = 370  # DF-001 to DF-370


def test_no_behaviour_is_without_a_test() -> None:
    files = [
        *TESTS.glob("integration/dockerfile/*.py"),
        *TESTS.glob("unit/frontends/**/*.py"),
        TESTS / "golden" / "dockerfile" / "recorded" / "cases.txt",
    ]
    named = {
        name
        for file in files
        if file.name != Path(__file__).name
        for name in re.findall(r"DF-[0-9]{3}", file.read_text(encoding="utf-8"))
    }
    assert [id for n in range(1, LAST + 1) if (id := f"DF-{n:03d}") not in named] == []
