"""Shared fixtures: where test data lies, and which real parts a test needs."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# No test fails for a busy machine.
settings.register_profile("torana", deadline=None)
settings.load_profile("torana")

# A shell's background jobs ignore Ctrl-C, and so would the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]


def _missing(part: str) -> bool:
    if part == "root":
        return os.geteuid() != 0
    if part == "user":
        return os.geteuid() == 0
    return shutil.which(part) is None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose parts are missing, or fail it where they were promised.

    `TORANA_TEST_REQUIRE` lists the promised parts, `all` promises every one (as CI does).
    """
    parts = [part for mark in item.iter_markers("needs") for part in mark.args]
    missing = [part for part in parts if _missing(part)]
    if not missing:
        return
    required = os.environ.get("TORANA_TEST_REQUIRE", "").split(",")
    if "all" in required or set(missing) & set(required):
        pytest.fail(f"promised parts are missing: {', '.join(missing)}", pytrace=False)
    pytest.skip(f"needs {', '.join(missing)}")
