"""Measured tables of platforms and image references."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from torana.core.errors import UserError
from torana.core.oci.platform import parse_platform
from torana.core.oci.reference import parse_reference

FIXTURES = Path(__file__).resolve().parents[2] / "data" / "dockerfile"


def rows(table: str) -> list[Any]:
    path = FIXTURES / "measured" / f"{table}.json"
    return [pytest.param(row, id=row["id"]) for row in json.loads(path.read_bytes())["cases"]]


@pytest.mark.parametrize("row", rows("platform"))
def test_platform(row: dict[str, Any]) -> None:
    if "error" in row:
        with pytest.raises(UserError) as caught:
            parse_platform(row["spec"])
        assert caught.value.message == row["error"]
        return
    platform = parse_platform(row["spec"])
    assert platform.to_dict() == row["parsed"]
    assert platform.normalized().to_dict() == row["normalized"]
    assert platform.format() == row["format"]
    assert platform.normalized().format_all() == row["format_all_normalized"]


@pytest.mark.parametrize("row", rows("image-ref"))
def test_image_reference(row: dict[str, Any]) -> None:
    if "error" in row:
        with pytest.raises(UserError) as caught:
            parse_reference(row["ref"])
        assert caught.value.message == row["error"]
        return
    reference = parse_reference(row["ref"])
    assert str(reference) == row["normalized"]
    assert str(reference.with_default_tag()) == row["with_tag"]
    assert reference.familiar() == row["familiar"]
