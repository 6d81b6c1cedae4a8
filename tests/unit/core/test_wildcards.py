from __future__ import annotations

import pytest

from torana.core.patterns import InvalidPatternError
from torana.core.wildcards import component_patterns, has_wildcard, split_wildcard


def matches(pattern: str, name: str) -> bool:
    (compiled,) = component_patterns(pattern)
    return compiled.fullmatch(name) is not None


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*", "", True),
        ("*.go", "a.go", True),
        ("*.go", "a.gox", False),
        ("a?c", "abc", True),
        ("a?c", "a\u00e4c", True),
        ("a?c", "a\U0001f600c", True),
        ("a??c", "a\u00e4c", False),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("[^a-c]x", "dx", True),
        ("[^a]", "\u00e4", True),
        ("[\u00e4-\u00f6]", "\u00f0", True),
        (r"\*", "*", True),
        (r"\*", "a", False),
        (r"[\]]", "]", True),
        ("a.c", "abc", False),
        ("*", "line\nbreak", True),
        ("?", "\udcff", True),
        ("[b-a]", "a", False),
        ("[^b-a]", "a", True),
        ("[a^]", "^", True),
        (r"[a\-c]", "b", False),
        ("[[]", "[", True),
    ],
)
def test_matching(pattern: str, name: str, expected: bool) -> None:
    assert matches(pattern, name) is expected


@pytest.mark.parametrize("pattern", ["[", "[a", "[]", "[a-]", "a\\", "[-a]", "[^]"])
def test_malformed(pattern: str) -> None:
    with pytest.raises(InvalidPatternError, match="syntax error in pattern"):
        component_patterns(pattern)


def test_splitting() -> None:
    assert split_wildcard("/a/b*/c") == ("/a", "b*/c")
    assert split_wildcard("/a/b") == ("/a/b", "")
    assert split_wildcard("/*") == ("", "*")
    assert split_wildcard(r"/a\*/[b]") == (r"/a\*", "[b]")
    assert not has_wildcard(r"a\*b\?")
