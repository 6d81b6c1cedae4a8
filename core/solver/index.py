"""`EdgeIndex`: finds a live edge that computes what another is about to compute.

It is a key store in memory whose records are edges: keys are found through any alternative of their
inputs, and vanish with the edges that they lead to.

Spec: the solver reference, section 8.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from torana.core.solver.keys import CacheKey
from torana.core.solver.stores import Link

if TYPE_CHECKING:
    from torana.core.solver.edge import ActiveEdge


class _Item:
    __slots__ = ("edge", "links", "sources")

    def __init__(self) -> None:
        self.edge: ActiveEdge | None = None
        self.links: dict[Link, set[str]] = {}
        self.sources: set[tuple[str, Link]] = set()


class EdgeIndex:
    """Live edges by key.

    Keys are worked out only where there are several edges of one op digest and output: most
    vertices of a build are like no other.
    """

    def __init__(self) -> None:
        self._alike: dict[tuple[str, int], dict[ActiveEdge, bool]] = {}  # True: found by key
        self._kinds: dict[ActiveEdge, list[tuple[str, int]]] = {}
        self._items: dict[str, _Item] = {}
        self._ids: dict[ActiveEdge, set[str]] = {}
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._items) + len(self._alike)

    def find_equal(self, edge: ActiveEdge) -> ActiveEdge | None:
        """Give a live edge that computes the same, as far as is known of the inputs of both."""
        assert edge.cache_map is not None
        kind = (edge.cache_map.digest, edge.index)
        alike = self._alike.setdefault(kind, {})
        if edge not in alike:
            alike[edge] = False
            self._kinds.setdefault(edge, []).append(kind)
        if len(alike) == 1:
            return None
        for other, is_indexed in alike.items():
            if not is_indexed and other is not edge:
                key = other.index_key(*kind)
                if key is not None:
                    self.find_or_add(key, other)
                    alike[other] = True
        key = edge.index_key(*kind)
        if key is None:
            return None
        alike[edge] = True
        return self.find_or_add(key, edge)

    def find_or_add(self, key: CacheKey, edge: ActiveEdge) -> ActiveEdge | None:
        """Give another live edge with this key; without one `edge` is found by it from now on.

        An edge that uses the cache takes one that ignores it for equal, not the other way round.
        """
        ids = self._matches(key)
        for id in ids:
            item = self._items.get(id)
            if item is None or item.edge is None or item.edge is edge:
                continue
            if item.edge.ignores_cache or not edge.ignores_cache:
                self._link(id, key)
                return item.edge
        id = ids[0] if ids else self._new_id()
        self._link(id, key)
        item = self._items[id]
        if item.edge is not None and item.edge is not edge:
            self._ids[item.edge].discard(id)
        item.edge = edge
        self._ids.setdefault(edge, set()).add(id)
        return None

    def release(self, edge: ActiveEdge) -> None:
        """Forget an edge, and the keys that lead to no other."""
        for kind in self._kinds.pop(edge, ()):
            alike = self._alike[kind]
            del alike[edge]
            if not alike:
                del self._alike[kind]
        for id in self._ids.pop(edge, ()):
            item = self._items.get(id)
            if item is not None and item.edge is edge:
                item.edge = None
                self._clean(id)

    def _clean(self, id: str) -> None:
        pending = [id]
        while pending:
            current = pending.pop()
            item = self._items.get(current)
            if item is None or item.edge is not None or item.links:
                continue
            del self._items[current]
            for source, link in item.sources:
                origin = self._items.get(source)
                if origin is None:
                    continue
                targets = origin.links.get(link)
                if targets is not None:
                    targets.discard(current)
                    if not targets:
                        del origin.links[link]
                pending.append(source)

    def _new_id(self) -> str:
        return f"#{next(self._numbers)}"

    def _matches(self, key: CacheKey) -> list[str]:
        """Give the ids of a key; inputs that have none yet get them."""
        if not key.inputs:
            return [key.id]
        pending = [each.key for alternatives in key.inputs for each in alternatives]
        while pending:
            current = pending[-1]
            if current.index_ids:
                pending.pop()
                continue
            missing = [
                each.key
                for alternatives in current.inputs
                for each in alternatives
                if not each.key.index_ids
            ]
            if missing:
                pending += missing
                continue
            pending.pop()
            current.index_ids = tuple(self._known(current)) or (self._new_id(),)
            for id in current.index_ids:
                self._link(id, current)
        return self._known(key)

    def _known(self, key: CacheKey) -> list[str]:
        if not key.inputs:
            return [key.id]
        found: set[str] | None = None
        for position, alternatives in enumerate(key.inputs):
            targets: set[str] = set()
            for each in alternatives:
                link = Link(position, key.output, key.digest, each.selector)
                for id in each.key.index_ids:
                    item = self._items.get(id)
                    if item is not None:
                        targets |= item.links.get(link, set())
            found = targets if found is None else found & targets
            if not found:
                return []
        return sorted(found or ())

    def _link(self, id: str, key: CacheKey) -> None:
        """Make all inputs of `key` lead to `id`."""
        item = self._items.setdefault(id, _Item())
        for position, alternatives in enumerate(key.inputs):
            for each in alternatives:
                link = Link(position, key.output, key.digest, each.selector)
                for source in each.key.index_ids:
                    origin = self._items.setdefault(source, _Item())
                    origin.links.setdefault(link, set()).add(id)
                    item.sources.add((source, link))
