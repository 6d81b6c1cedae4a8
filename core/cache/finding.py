"""`Finding`: something in a store that does not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torana.core.records import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, and with what."""

    problem: str
    id: str

    def __str__(self) -> str:
        return f"{self.problem}: {self.id}"


Look = Callable[[], Iterable[Finding]]
"""Looks for something that does not fit, or puts it right as well."""
