"""The measured tables of the Dockerfile fixtures, one pytest parameter per row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

FIXTURES = Path(__file__).resolve().parents[2] / "data" / "dockerfile"


def table(name: str) -> dict[str, Any]:
    """Give a whole table, head fields included."""
    data: dict[str, Any] = json.loads((FIXTURES / "measured" / name).read_bytes())
    return data


def rows(name: str) -> list[Any]:
    """Give the rows of a table as parameters named by their ids."""
    return [pytest.param(row, id=row["id"]) for row in table(name)["cases"]]
