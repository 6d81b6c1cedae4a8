"""The `world` that most tests of the solver live in."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.unit.core.solver.fakes import World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.close()
