"""A real registry on the loopback, and one of our own that misbehaves as told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.registry.servers import FaultyRegistry, RealRegistry

from torana.core.content.store import ContentStore


@pytest.fixture
def faulty() -> Iterator[FaultyRegistry]:
    registry = FaultyRegistry()
    try:
        yield registry
    finally:
        registry.close()


@pytest.fixture
def content(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path / "content")


@pytest.fixture
def start_registry(tmp_path: Path) -> Iterator[Callable[..., RealRegistry]]:
    """Starts real registries, which are stopped after the test."""
    started: list[RealRegistry] = []

    def start(**options: Any) -> RealRegistry:
        folder = tmp_path / f"registry{len(started)}"
        folder.mkdir()
        registry = RealRegistry(folder, **options)
        started.append(registry)
        registry.start()
        return registry

    yield start
    for registry in started:
        registry.stop()
