"""Builds in a store of their own, with a registry that is served from memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.registry.builds import Builds
from tests.integration.registry.servers import FaultyRegistry

from torana.plugins.registry import access
from torana.plugins.registry.access import RegistryAccess
from torana.plugins.registry.credentials import NoCredentials
from torana.plugins.registry.settings import RegistrySettings


@pytest.fixture
def registry() -> Iterator[FaultyRegistry]:
    made = FaultyRegistry()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Builds]:
    own = RegistryAccess(RegistrySettings(), NoCredentials())
    monkeypatch.setattr(access, "_default", own)
    made = Builds(tmp_path, own)
    yield made
    made.close()
