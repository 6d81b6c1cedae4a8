"""Stores without mounts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.unit.core.cache.stores import Store


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Opens the same root again and again, as other processes do."""
    opened: list[Store] = []

    def open_() -> Store:
        opened.append(Store(tmp_path))
        return opened[-1]

    yield open_
    for store in opened:
        store.die()


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    return open_store()
