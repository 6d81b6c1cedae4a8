"""The index of live edges. Numbers are those of the solver reference, section 15."""

from __future__ import annotations

from typing import Any, cast

import pytest

from torana.core.solver.edge import ActiveEdge
from torana.core.solver.export import KeyExporter
from torana.core.solver.index import EdgeIndex
from torana.core.solver.keys import CacheKey, SelectedKey


class FakeEdge:
    def __init__(self, ignores_cache: bool = False) -> None:
        self.ignores_cache = ignores_cache


def edge(ignores_cache: bool = False) -> ActiveEdge:
    return cast("ActiveEdge", FakeEdge(ignores_cache))


def key(digest: str, *inputs: list[CacheKey], selector: str | None = None, output: int = 0) -> Any:
    alternatives = tuple(
        tuple(SelectedKey(each, KeyExporter(each), selector) for each in keys) for keys in inputs
    )
    return CacheKey(digest, output, alternatives)


def test_scenario_70_two_levels() -> None:
    index = EdgeIndex()
    first, second, third = edge(), edge(), edge()
    assert index.find_or_add(key("foo"), first) is None
    assert index.find_or_add(key("foo"), second) is first
    assert index.find_or_add(key("bar", [key("foo"), key("foo2")]), second) is None
    assert index.find_or_add(key("bar", [key("foo2")]), third) is second
    assert index.find_or_add(key("bar", [key("foo3")]), third) is None
    for each in (first, second, third):
        index.release(each)
    assert len(index) == 0


def test_scenario_70_three_levels() -> None:
    index = EdgeIndex()
    first, second, other = edge(), edge(), edge()

    def middle(*roots: str) -> CacheKey:
        found: CacheKey = key("middle", [key(root) for root in roots], [key("base")])
        return found

    assert index.find_or_add(key("top", [middle("a", "b")]), first) is None
    assert index.find_or_add(key("top", [middle("b")]), other) is first
    assert index.find_or_add(key("top", [middle("c"), middle("a")]), other) is first
    assert index.find_or_add(key("top", [middle("c")]), other) is first, "learnt on the way"
    assert index.find_or_add(key("top", [middle("d")]), second) is None
    index.release(first)
    assert index.find_or_add(key("top", [middle("a")]), other) is None
    index.release(second)
    index.release(other)
    assert len(index) == 0


@pytest.mark.parametrize("change", ["selector", "output", "position"])
def test_all_of_a_key_counts(change: str) -> None:
    index = EdgeIndex()
    index.find_or_add(key("top", [key("a")], [key("b")], selector="s"), edge())
    other = {
        "selector": key("top", [key("a")], [key("b")], selector="t"),
        "output": key("top", [key("a")], [key("b")], selector="s", output=1),
        "position": key("top", [key("b")], [key("a")], selector="s"),
    }
    assert index.find_or_add(other[change], edge()) is None
    assert index.find_or_add(key("top", [key("a")], [key("b")], selector="s"), edge())


def test_edge_that_ignores_the_cache_finds_only_its_like() -> None:
    index = EdgeIndex()
    normal, ignoring = edge(), edge(ignores_cache=True)
    assert index.find_or_add(key("a"), normal) is None
    assert index.find_or_add(key("a"), ignoring) is None
    assert index.find_or_add(key("a"), edge(ignores_cache=True)) is ignoring
    assert index.find_or_add(key("a"), edge()) is ignoring
    index.release(normal)
    assert index.find_or_add(key("a"), edge()) is ignoring
    index.release(ignoring)
    assert len(index) == 0


def test_deep_keys_need_no_recursion() -> None:
    index = EdgeIndex()
    current: CacheKey = key("n0")
    for number in range(1, 3000):
        current = key(f"n{number}", [current])
    first = edge()
    assert index.find_or_add(current, first) is None
    index.release(first)
    assert len(index) == 0
