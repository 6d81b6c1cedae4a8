"""The measured tables of the Dockerfile fixtures, one pytest parameter per row."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(
    os.environ.get("TORANA_FIXTURES_DIR")
    or Path(__file__).resolve().parents[3] / "../shared/fixtures/dockerfile"
)
FIXTURES = _ROOT if (_ROOT / "measured").is_dir() else _ROOT / "dockerfile"


def table(name: str) -> dict[str, Any]:
    """Give a whole table, head fields included."""
    data: dict[str, Any] = json.loads((FIXTURES / "measured" / name).read_bytes())
    return data


def rows(name: str) -> list[Any]:
    """Give the rows of a table as parameters named by their ids."""
    return [pytest.param(row, id=row["id"]) for row in table(name)["cases"]]
