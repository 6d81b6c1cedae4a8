"""`Pipe`: one request and its answers, between an edge and an edge, a call, or a build.

The asking side cancels; the answering side updates any number of times and completes once. A
cancelled pipe stays open until the answering side completes it: then nothing runs for it any more.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torana.core.solver.edge import ActiveEdge
    from torana.core.solver.inputs import Input


class EdgeState(IntEnum):
    """What is known of an edge, in order: nothing, keys by definition, by content, the result."""

    INITIAL = 0
    CACHE_FAST = 1
    CACHE_SLOW = 2
    COMPLETE = 3


def ignore(pipe: Pipe) -> None:
    """Take the news of a pipe that nobody is interested in any more."""


class Pipe:
    """A request.

    Of a request to an edge, `desired` is the state that is asked for, `known` what the asking side
    has been told, and `key_count` how many keys it knew when it asked. `value` is the answering
    edge, or what a call gave. `handle` is how `origin`, the asking edge, takes news.
    """

    __slots__ = (
        "desired",
        "error",
        "handle",
        "has_news",
        "is_cancelled",
        "is_completed",
        "item",
        "key_count",
        "known",
        "on_cancel",
        "on_news",
        "origin",
        "target",
        "value",
    )

    def __init__(
        self,
        *,
        desired: EdgeState = EdgeState.COMPLETE,
        key_count: int = 0,
        origin: ActiveEdge | None = None,
        target: ActiveEdge | None = None,
        handle: Callable[[Pipe], Any] = ignore,
        on_news: Callable[[Pipe], None] = ignore,
        on_cancel: Callable[[Pipe], None] = ignore,
    ) -> None:
        self.desired = desired
        self.key_count = key_count
        self.item: Input | None = None  # of `origin`, that the request is about
        self.known: tuple[EdgeState, int] | None = None
        self.origin = origin
        self.target = target
        self.handle = handle
        self.on_news = on_news
        self.on_cancel = on_cancel
        self.value: Any = None
        self.error: BaseException | None = None
        self.has_news = False
        self.is_cancelled = False
        self.is_completed = False

    def update(self, value: Any) -> None:
        """Tell the asking side what there is so far."""
        assert not self.is_completed, "an answer was given twice"
        self.value = value
        self.on_news(self)

    def complete(self, value: Any = None, error: BaseException | None = None) -> None:
        """Give the final answer."""
        assert not self.is_completed, "an answer was given twice"
        self.value, self.error = value, error
        self.is_completed = True
        self.on_news(self)

    def cancel(self) -> None:
        """Say that no answer is wanted; a completed pipe stays as it is."""
        if not self.is_completed and not self.is_cancelled:
            self.is_cancelled = True
            self.on_cancel(self)
