"""Durations and sizes."""

from __future__ import annotations

import pytest

from torana.core.quantities import (
    InvalidQuantityError,
    Size,
    parse_duration_s,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("48h", 172800), ("1h30m", 5400), (7, 7), ("90", 90), ("1.5h", 5400), ("250ms", 0.25)],
)
def test_durations(text: str | int, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "2 weeks", "1h 30m", "-5s"])
def test_wrong_durations(text: str) -> None:
    with pytest.raises(InvalidQuantityError, match="invalid duration"):
        parse_duration_s(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (5, Size(5)),
        ("5", Size(5)),
        ("512MB", Size(512 << 20)),
        ("2GiB", Size(2 << 30)),
        ("1.5k", Size(1536)),
        ("10%", Size(percent=10)),
    ],
)
def test_sizes(text: str | int, size: Size) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "10 percent", "101%", "-1"])
def test_wrong_sizes(text: str) -> None:
    with pytest.raises(InvalidQuantityError, match="invalid size"):
        parse_size(text)


def test_a_share_of_the_disk_is_rounded_up() -> None:
    assert Size(percent=10).on(100 << 30) == 11_000_000_000
    assert Size(7).on(100 << 30) == 7
