"""Shared fixtures: where test data lies, and which real parts a test needs."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from tests.sites import Site

# No test fails for a busy machine. Each run tries the same examples; TORANA_EXPLORE tries others.
settings.register_profile("torana", deadline=None, derandomize="TORANA_EXPLORE" not in os.environ)
settings.load_profile("torana")

# A shell's background jobs ignore Ctrl-C, those of nohup a hang-up, and so would what tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

ROOT = Path(__file__).resolve().parents[1]


def _missing(part: str) -> bool:
    if part == "root":
        return os.geteuid() != 0
    if part == "user":
        return os.geteuid() == 0
    if part == "uv":  # comes with the other tools of developers
        return shutil.which(part) is None and not Path(sys.executable).with_name(part).exists()
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


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """An empty folder for distributions of the test; it is on nobody's path yet."""
    folder = tmp_path / "site"
    folder.mkdir()
    return Site(folder)


@pytest.fixture
def installed_site(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The same on `sys.path`; what was imported from it is forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(site.path)
    yield site
    for name in set(sys.modules) - before:
        place = getattr(sys.modules[name], "__file__", None)
        if place is not None and place.startswith(str(site.path)):
            del sys.modules[name]
