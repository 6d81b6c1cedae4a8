"""Pattern matching in walks, its short cuts, and what walks may leave out."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from torana.core import patterns
from torana.core.patterns import InvalidPatternError, PatternMatcher

NAMES = st.text(alphabet="ab.-", min_size=1, max_size=3).filter(
    lambda name: name not in (".", "..")
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
PARTS = st.text(alphabet="ab.-*?", min_size=1, max_size=4).filter(lambda p: p not in (".", ".."))
PATTERNS = st.lists(PARTS | st.just("**"), min_size=1, max_size=3).map("/".join)


@given(PATTERNS, PATHS | st.just(""))
@example("**/*.a", "a/b.a")
@example("a*", "a/b")
@example("**", "")
def test_short_cuts_match_what_expressions_match(pattern: str, path: str) -> None:
    expression = patterns._regex(pattern)(path) is not None
    if pattern.startswith("**") and not set("*?[\\") & set(pattern[2:]):
        # Leading stars before a literal: the end of any path, by definition.
        rest = pattern[2:]
        expression = path.endswith(rest) or (rest[:1] == "/" and path == rest[1:])
    assert patterns._compile(pattern)(path) == expression


def walk(matcher: PatternMatcher, path: str) -> bool:
    """Match a path as a walk from the top does."""
    state = None
    matched = False
    parts = path.split("/")
    for count in range(1, len(parts) + 1):
        matched, state = matcher.matches_below("/".join(parts[:count]), state)
    return matched


@given(st.lists(PATTERNS, max_size=4), PATHS)
def test_a_walk_and_a_single_question_agree_without_exclusions(lines: list[str], path: str) -> None:
    matcher = PatternMatcher(lines)
    assert walk(matcher, path) == matcher.matches(path)


def test_a_pattern_that_was_not_tried_on_a_folder_says_nothing_below() -> None:
    matcher = PatternMatcher(["a", "!a/x", "a"])
    assert matcher.matches("a/x")
    assert not walk(matcher, "a/x")


SIGNED = st.tuples(st.booleans(), PATTERNS).map(lambda pair: "!" * pair[0] + pair[1])


@given(st.lists(SIGNED, max_size=4), PATHS)
def test_nothing_is_included_again_where_it_could_not(lines: list[str], path: str) -> None:
    matcher = PatternMatcher(lines)
    state = None
    parts = path.split("/")
    closed = False
    for count in range(1, len(parts) + 1):
        here = "/".join(parts[:count])
        matched, state = matcher.matches_below(here, state)
        assert matched or not closed
        closed = matched and not matcher.could_match_below(here)


@given(st.lists(SIGNED, max_size=4), PATHS)
def test_nothing_begins_to_match_where_it_could_not(lines: list[str], path: str) -> None:
    matcher = PatternMatcher(lines)
    state = None
    parts = path.split("/")
    closed = False
    for count in range(1, len(parts) + 1):
        here = "/".join(parts[:count])
        matched, state = matcher.matches_below(here, state)
        assert not (matched and closed)
        closed = not matched and not matcher.could_start_below(here)


def test_walks_leave_out_unrelated_folders() -> None:
    matcher = PatternMatcher(["*", "!src/*.c", "!docs/a"])
    assert matcher.could_match_below("src")
    assert matcher.could_match_below("docs")
    assert not matcher.could_match_below("docs/b")
    assert not matcher.could_match_below("build")
    assert not PatternMatcher(["a/b"]).could_start_below("c")
    assert PatternMatcher(["a/b"]).could_start_below("a")


@pytest.mark.parametrize("pattern", ["!", " ! ", "a\\", "[", "[]", "[a", "[a-]", "x[^", "[z-a]"])
def test_malformed_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(InvalidPatternError):
        PatternMatcher([pattern])
