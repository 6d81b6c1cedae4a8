"""Where in a build file work is being done: `located_at`.

Ops that are made meanwhile, and name no location of their own, carry this one. So a frontend tells
once, where it walks its tree, and not with each op that it makes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from torana.core.llb.vertices import SourceLocation

_CURRENT: Final[ContextVar[Sequence[SourceLocation]]] = ContextVar("torana.location", default=())


def current_location() -> Sequence[SourceLocation]:
    """Give the location of ops that name none, innermost first; empty outside of `located_at`."""
    return _CURRENT.get()


def set_location(location: Sequence[SourceLocation]) -> None:
    """Give ops that are made from now on, in this task, a location."""
    _CURRENT.set(location)


@contextmanager
def located_at(location: Sequence[SourceLocation]) -> Iterator[None]:
    """Give ops that are made while entered a location; tasks that begin meanwhile inherit it."""
    before = _CURRENT.get()
    _CURRENT.set(location)
    try:
        yield
    finally:
        _CURRENT.set(before)
