from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users can get to."""
    with tempfile.TemporaryDirectory(prefix="torana-test-") as text:
        yield Path(text)
