"""`wanted_state`: how much an edge asks of an input, and no more.

Over-eager requests cost: asking for content makes an input run. The two-phase rule keeps inputs
that match by definition from being run and hashed while another input, without any match, may
still show that nothing can match.

Spec: the solver reference, section 5.4.
"""

from __future__ import annotations

from typing import NamedTuple

from torana.core.solver import inputs as claims
from torana.core.solver.inputs import Input, Inputs
from torana.core.solver.pipe import EdgeState


class Situation(NamedTuple):
    """What decides about all inputs alike; equal situations give equal wishes."""

    desired: EdgeState
    is_forced: bool  # nothing can match any more, or the edge would stand still
    has_keys: bool
    has_records: bool
    is_described: bool  # the cache map is known
    all_fast: bool
    all_slow: bool
    all_matched: bool
    may_match_fast: bool
    may_match_slow: bool

    @classmethod
    def of(
        cls,
        inputs: Inputs,
        *,
        desired: EdgeState,
        is_forced: bool,
        has_keys: bool,
        has_records: bool,
    ) -> Situation:
        is_described = inputs.is_described
        return cls(
            desired=desired,
            is_forced=is_forced,
            has_keys=has_keys,
            has_records=has_records,
            is_described=is_described,
            all_fast=is_described and not inputs.any(claims.NOT_FAST),
            all_slow=is_described and not inputs.any(claims.NOT_SLOW),
            all_matched=is_described and not inputs.any(claims.NO_MATCH),
            may_match_fast=not is_described or inputs.any(claims.MAY_MATCH_FAST),
            may_match_slow=is_described and inputs.any(claims.MAY_MATCH_SLOW),
        )


def wanted_state(situation: Situation, item: Input) -> EdgeState:
    """Give the state that an input is to reach; its own state when it is to do nothing."""
    state, desired = item.state, situation.desired
    if situation.is_forced:
        return EdgeState.COMPLETE
    if state == EdgeState.INITIAL:
        return EdgeState.CACHE_FAST if desired > state else state
    if state == EdgeState.COMPLETE or not situation.is_described:
        return state
    if state == EdgeState.CACHE_SLOW:
        return _of_slow(situation, item)
    return _of_fast(situation, item) if desired > state else state


def _of_fast(situation: Situation, item: Input) -> EdgeState:
    """Go on from keys by definition: only where they did not suffice."""
    is_matched = bool(item.matches)
    if is_matched and situation.may_match_fast:
        return EdgeState.CACHE_FAST
    is_of_use = not is_matched or situation.all_matched
    if is_of_use or (situation.all_fast and not situation.has_keys):
        return EdgeState.CACHE_SLOW
    return EdgeState.CACHE_FAST


def _of_slow(situation: Situation, item: Input) -> EdgeState:
    """Go on from all keys: ask for the result, to hash it or because it is needed."""
    desired = situation.desired
    is_matched = bool(item.matches)
    waits_for_others = (
        is_matched and item.has_content and not item.is_content_done and situation.may_match_slow
    )
    if desired == EdgeState.COMPLETE:
        is_hashed = item.has_content and not (is_matched and situation.may_match_fast)
        is_needed = not is_matched or situation.all_slow or is_hashed
        if is_needed and not situation.has_records and not waits_for_others:
            return EdgeState.COMPLETE
    elif desired == EdgeState.CACHE_SLOW and item.has_content and not waits_for_others:
        return EdgeState.COMPLETE
    return EdgeState.CACHE_SLOW
