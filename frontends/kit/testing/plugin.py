"""The pytest plugin: fixtures `gateway`, `golden` and `runtimes`, the option `--update-golden`.

It is loaded wherever torana is installed beside pytest, and so imports next to nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from torana.frontends.kit.testing.gateway import FakeGateway
    from torana.frontends.kit.testing.golden import Golden
    from torana.frontends.kit.testing.runtimes import Runtimes


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("torana")
    group.addoption(
        "--update-golden", action="store_true", help="write golden LLB files instead of comparing"
    )


@pytest.fixture
def gateway() -> FakeGateway:
    """A gateway without an engine; a test fills its `images`, `contexts` and `urls`."""
    from torana.frontends.kit.testing.gateway import FakeGateway

    return FakeGateway()


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compares readable LLB with files in `golden/` beside the test."""
    from torana.frontends.kit.testing.golden import Golden

    folder = Path(request.node.path).parent / "golden"
    return Golden(folder, is_updating=bool(request.config.getoption("--update-golden")))


@pytest.fixture
def runtimes() -> Runtimes:
    """Builds in process, in a subprocess, and on the BuildKit that `TORANA_TEST_BUILDKIT` names."""
    from torana.frontends.kit.testing.runtimes import Runtimes

    return Runtimes.from_environment()
