"""Every scenario of the solver reference, section 15, has a test that names its number."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[3]
NAME = re.compile(r"def test_scenario_(\d\d)(?:_(and|to)_(\d\d))?")


def test_no_scenario_is_without_a_test() -> None:
    tested: set[int] = set()
    for path in TESTS.rglob("test_*.py"):
        for first, joint, last in NAME.findall(path.read_text()):
            tested |= {int(first), int(last or first)}
            if joint == "to":
                tested.update(range(int(first), int(last)))
    assert sorted(set(range(1, 77)) - tested) == []
