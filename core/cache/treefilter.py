"""`TreeFilter`: which part of a client's folder is sent.

Spec: reference of sources, section 7; contenthash reference, section 7.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from torana.core.cache.digesttree import parent
from torana.core.patterns import PatternMatcher, State


class Verdict(NamedTuple):
    """What patterns say of a path: whether it is sent, and whether something below it may be."""

    is_sent: bool
    may_hold: bool


class TreeFilter:
    """Include and exclude patterns; empty ones send everything.

    Raises:
        InvalidPatternError: a malformed pattern.
    """

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        self._include = PatternMatcher(include) if any(map(str.strip, include)) else None
        self._exclude = PatternMatcher(exclude) if any(map(str.strip, exclude)) else None
        self._states: dict[bytes, tuple[State | None, State | None]] = {b"": (None, None)}

    @property
    def is_open(self) -> bool:
        """Whether everything is sent."""
        return self._include is None and self._exclude is None

    def sends_all_below(self, path: bytes) -> bool:
        """Say whether everything in a directory is sure to be sent; False may mean so, too."""
        if self._exclude is not None:
            return False
        if self._include is None:
            return True
        return self.verdict(path).is_sent and not self._include.has_exclusions

    def verdict(self, path: bytes) -> Verdict:
        """Judge a path by its name alone; `may_hold` counts where it is a directory."""
        if self.is_open or not path:
            return Verdict(True, True)
        above = parent(path)
        if above not in self._states:
            self._learn(above)
        include_above, exclude_above = self._states[above]
        text = os.fsdecode(path)
        is_sent = may_hold = True
        include = exclude = None
        if self._include is not None:
            is_sent, include = self._include.matches_below(text, include_above)
            may_hold = is_sent or self._include.could_start_below(text)
        if self._exclude is not None:
            is_excluded, exclude = self._exclude.matches_below(text, exclude_above)
            if is_excluded:
                is_sent = False
                may_hold = may_hold and self._exclude.could_match_below(text)
        self._states[path] = (include, exclude)
        return Verdict(is_sent, may_hold)

    def _learn(self, path: bytes) -> None:
        position = path.find(b"/")
        while position >= 0:
            self.verdict(path[:position])
            position = path.find(b"/", position + 1)
        self.verdict(path)
