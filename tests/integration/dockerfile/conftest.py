"""A store that the tests of a module share, and a context folder for each test."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = str(Path(__file__).resolve().parents[3])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

from tests.integration.dockerfile.builder import Builder  # noqa: E402  # needs the path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def builder(store: Path, tmp_path: Path) -> Builder:
    return Builder(store, tmp_path)
