"""`Inputs`: what an edge knows of its inputs, counted.

A vertex may have a thousand inputs, and each of them sends news several times. So what is asked
about all of them is kept as counts, and news of one input costs the same whatever their number.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from torana.core.solver.keys import CacheKey, ExportableKey, SelectedKey
from torana.core.solver.op import CacheMap, CacheMapInput, Result
from torana.core.solver.pipe import EdgeState, Pipe

NOT_FAST: Final = 0
"""Its keys by definition are not all known."""
NOT_SLOW: Final = 1
"""Its keys by content are not all known, or the content is still to be looked at."""
UNDECIDED: Final = 2
"""It has no match, and keys by definition may still come."""
NOT_READY: Final = 3
"""Its result is not there, or not made local and hashed yet."""
MAY_MATCH_SLOW: Final = 4
"""It has no match, but its content or its slow keys may give one."""
MAY_MATCH_FAST: Final = 5
"""It has no match, but something short of executing it and hashing may give one."""
NO_KEY: Final = 6
"""Neither a key nor a result of it is known."""
NO_MATCH: Final = 7
"""Neither a match, nor content, nor a result of it is known."""
_CLAIMS: Final = 8
_BITS: Final = [
    tuple(claim for claim in range(_CLAIMS) if bits >> claim & 1) for bits in range(1 << _CLAIMS)
]


class CachedResult:
    """A result with the keys it is known by; the result itself is borrowed from its vertex.

    `is_fresh` says that a cache was ignored to make it: what is stored by its keys may have been
    made from another result, so that nothing may be matched by them.
    """

    __slots__ = ("is_fresh", "keys", "result")

    def __init__(
        self, result: Result | None, keys: Iterable[ExportableKey], *, is_fresh: bool = False
    ) -> None:
        self.result = result
        self.keys = tuple(keys)
        self.is_fresh = is_fresh


class Input:
    """One input of an edge. `matches` are the keys that the edge may have because of it."""

    __slots__ = (
        "claims",
        "content",
        "content_pipe",
        "has_found_content",
        "is_content_done",
        "keys",
        "matches",
        "need",
        "pipe",
        "position",
        "result",
        "state",
    )

    def __init__(self, position: int) -> None:
        self.position = position
        self.state = EdgeState.INITIAL
        self.keys: dict[CacheKey, ExportableKey] = {}
        self.matches: dict[str, CacheKey] = {}
        self.result: CachedResult | None = None
        self.need = CacheMapInput()
        self.content: SelectedKey | None = None
        self.is_content_done = False
        self.has_found_content = False
        self.content_pipe: Pipe | None = None
        self.pipe: Pipe | None = None
        self.claims = 0

    @property
    def has_content(self) -> bool:
        """Whether the content counts, and not only the definition."""
        return self.need.content_digest is not None

    @property
    def is_prepared(self) -> bool:
        """Whether it must be made local, or hashed, before the edge can be executed."""
        return self.need.content_digest is not None or self.need.preprocess is not None

    @property
    def is_fresh(self) -> bool:
        """Whether its definition says nothing about its result, and neither does its content."""
        return self.result is not None and self.result.is_fresh and self.content is None

    @property
    def is_open(self) -> bool:
        """Whether the preparation can go on, and has not."""
        return self.is_prepared and not self.is_content_done and self.state >= EdgeState.CACHE_SLOW

    def selected(self) -> tuple[SelectedKey, ...]:
        """Give all alternatives by which the input is known: of its result, when it has one."""
        selector = self.need.selector
        if self.result is None:
            return tuple(key.through(selector) for key in self.keys.values())
        found = [key.through(selector) for key in self.result.keys]
        if self.content is not None:
            found.append(self.content)
        return tuple(found)

    def compute_claims(self) -> int:
        """Give the claims above that hold, as bits."""
        state = self.state
        has_content = self.need.content_digest is not None
        is_waiting = has_content and not self.is_content_done
        has_match = bool(self.matches)
        is_known = self.content is not None or self.result is not None
        claims = 0
        if state < EdgeState.CACHE_FAST:
            claims |= 1 << NOT_FAST
        if state < EdgeState.CACHE_SLOW or is_waiting:
            claims |= 1 << NOT_SLOW
        if state < EdgeState.COMPLETE or self.is_open:
            claims |= 1 << NOT_READY
        if not has_match:
            if state < EdgeState.CACHE_SLOW:
                claims |= 1 << UNDECIDED | 1 << MAY_MATCH_SLOW
            if is_waiting:
                claims |= 1 << MAY_MATCH_SLOW | 1 << MAY_MATCH_FAST
            if not has_content and state < EdgeState.COMPLETE:
                claims |= 1 << MAY_MATCH_FAST
            if not is_known:
                claims |= 1 << NO_MATCH
        if not self.keys and not is_known:
            claims |= 1 << NO_KEY
        return claims


class Inputs:
    """All inputs of an edge. Until `describe`, before the cache map, nothing is counted."""

    __slots__ = ("_counts", "_match_counts", "confirmed", "is_described", "items", "to_ask")

    def __init__(self, count: int) -> None:
        self.items = [Input(position) for position in range(count)]
        self.is_described = False
        self._counts = [0] * _CLAIMS
        self._match_counts: dict[str, int] = {}
        self.confirmed: list[CacheKey] = []  # keys that all inputs match now, to be taken
        self.to_ask: dict[Input, None] = {}  # inputs with news since the edge last asked them

    def describe(self, answer: CacheMap) -> None:
        """Take in how the inputs enter the key."""
        self.is_described = True
        for item, need in zip(self.items, answer.inputs, strict=False):
            item.need = need
        for item in self.items:
            self.refresh(item)

    def refresh(self, item: Input) -> None:
        """Count an input anew after a change."""
        if not self.is_described:
            return
        before = item.claims
        now = item.compute_claims()
        if now != before:
            item.claims = now
            for claim in _BITS[before & ~now]:
                self._counts[claim] -= 1
            for claim in _BITS[now & ~before]:
                self._counts[claim] += 1

    def any(self, claim: int) -> bool:
        """Tell whether a claim holds for any input."""
        return self._counts[claim] > 0

    def match(self, item: Input, key: CacheKey) -> bool:
        """Note that the edge may have `key` because of `item`; tells whether that is new."""
        if key.id in item.matches:
            return False
        item.matches[key.id] = key
        count = self._match_counts[key.id] = self._match_counts.get(key.id, 0) + 1
        if count == len(self.items):
            self.confirmed.append(key)
        return True

    def low(self, item: Input) -> EdgeState:
        """Give the state that the edge has at least, since `item` cannot match before it."""
        if item.matches or item.is_open:
            return EdgeState.INITIAL
        return min(item.state, EdgeState.CACHE_SLOW)

    def high(self) -> EdgeState:
        """Give the state that the edge has since all inputs have told that much."""
        if self._counts[NOT_FAST]:
            return EdgeState.INITIAL
        return EdgeState.CACHE_FAST if self._counts[NOT_SLOW] else EdgeState.CACHE_SLOW

    def has_open_keys(self, known: Iterable[str]) -> bool:
        """Tell whether a key that is not `known` could still be confirmed by all inputs."""
        found: set[str] | None = None
        for item in self.items:
            if item.has_content and item.is_open:
                continue
            keys = set(item.matches).difference(known)
            found = keys if found is None else found & keys
            if not found:
                return False
        return True
