"""`CacheChains`: takes what the solver exports, and gives it as a cache config.

Records of one digest whose inputs are led to by the same links are one, however often and by
however many ways they are added. Chains of layers that begin alike share what they have in common.

Spec: the cache reference, section 5, Rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

from torana.core.cache.layers import Layer
from torana.core.oci.digest import Digest
from torana.core.records import dataclass
from torana.core.remotecache.config import (
    NO_PARENT,
    CacheConfig,
    CacheInput,
    CacheLayer,
    CacheRecord,
    CacheResult,
)
from torana.core.solver.export import ExportedLink, ExportedResult
from torana.core.solver.stores import is_random


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedCache:
    """A config, sorted, and its layers by their blob."""

    config: CacheConfig
    layers: Mapping[Digest, Layer]

    def ordered(self) -> list[Layer]:
        """Give the layers in the config's order."""
        return [self.layers[layer.blob] for layer in self.config.layers]


@dataclass(frozen=True, slots=True)
class _Way:
    """How a record leads to another one."""

    selector: str
    position: int
    digest: str  # of the other


@dataclass(eq=False, slots=True)
class _Item:
    """A record. `parents` has the links of each input; `children` are their other ends."""

    digest: str
    parents: list[dict[tuple[_Item, str], None]]
    children: dict[_Way, dict[_Item, None]] = field(default_factory=dict)
    results: list[ExportedResult] = field(default_factory=list)
    owner: _Item | None = None  # what it was merged into

    def itself(self) -> _Item:
        """Give what it was merged into, itself if it was not."""
        item = self
        while item.owner is not None:
            item = item.owner
        return item

    def link(self, position: int, source: _Item, selector: str) -> None:
        self.parents[position][source, selector] = None
        way = _Way(selector, position, self.digest)
        source.children.setdefault(way, {})[self] = None

    def unlink(self) -> None:
        """Take it out of what its inputs lead to."""
        for position, links in enumerate(self.parents):
            for source, selector in links:
                source.children.get(_Way(selector, position, self.digest), {}).pop(self, None)

    def add_result(self, result: ExportedResult) -> None:
        if result not in self.results:
            self.results.append(result)

    def below(self) -> set[_Item]:
        """Give itself and all that is made from it."""
        found = {self}
        pending = [self]
        while pending:
            for items in pending.pop().children.values():
                fresh = [each for each in items if each not in found]
                found.update(fresh)
                pending += fresh
        return found


class CacheChains:
    """An `ExportTarget`; what is remote of a result are its layers, base first."""

    def __init__(self) -> None:
        self._items: dict[_Item, None] = {}
        self._roots: dict[str, _Item] = {}

    def add(
        self,
        digest: str,
        inputs: Sequence[Sequence[ExportedLink]],
        results: Sequence[ExportedResult],
    ) -> _Item | None:
        """Take a record; see `ExportTarget.add`."""
        if is_random(digest) or not all(inputs):
            return None
        item = self._find(digest, inputs)
        if item is None:
            item = _Item(digest, [{} for _ in inputs])
            self._items[item] = None
            if not inputs:
                self._roots[digest] = item
        for result in results:
            item.add_result(result)
        # A record must not be made from itself, whatever other builds have found to be equal.
        forbidden = item.below() if item.children else {item}
        for position, links in enumerate(inputs):
            for each in links:
                source = each.record.itself()
                if source not in forbidden:
                    item.link(position, source, each.selector or "")
        return item

    def _find(self, digest: str, inputs: Sequence[Sequence[ExportedLink]]) -> _Item | None:
        """Give the record that is led to from all inputs; several are made one."""
        if not inputs:
            return self._roots.get(digest)
        found: dict[_Item, None] | None = None
        for position, links in enumerate(inputs):
            led: dict[_Item, None] = {}
            for each in links:
                way = _Way(each.selector or "", position, digest)
                led.update(each.record.itself().children.get(way, {}))
            found = led if found is None else {each: None for each in found if each in led}
            if not found:
                return None
        assert found is not None
        main, *others = found
        for other in others:
            if main not in other.below() and other not in main.below():
                self._merge(main, other)
        return main

    def _merge(self, main: _Item, other: _Item) -> None:
        """Let `main` be all that `other` is; what would make a circle is left out."""
        del self._items[other]
        other.unlink()
        other.owner = main
        for way, items in other.children.items():
            for child in items:
                links = child.parents[way.position]
                links.pop((other, way.selector), None)
                child.link(way.position, main, way.selector)
        forbidden = main.below()
        for position, links in enumerate(other.parents):
            for source, selector in links:
                if source not in forbidden:
                    main.link(position, source, selector)
        for result in other.results:
            main.add_result(result)

    def exported(self) -> ExportedCache:
        """Give everything that was added."""
        layers = _Layers()
        numbers: dict[_Item, int] = {}
        for item in self._items:
            numbers[item] = len(numbers)
        records = []
        for item in self._items:
            links = [
                tuple(CacheInput(numbers[source], selector) for source, selector in links)
                for links in item.parents
            ]
            records.append(
                CacheRecord(
                    digest=Digest(item.digest),
                    inputs=tuple(links),
                    results=layers.results(item.results),
                )
            )
        config = CacheConfig(layers=tuple(layers.chained), records=tuple(records))
        return ExportedCache(config=config.sorted(), layers=layers.by_blob)


class _Layers:
    """Numbers layers; chains that begin alike have the same ones."""

    def __init__(self) -> None:
        self.chained: list[CacheLayer] = []
        self.by_blob: dict[Digest, Layer] = {}
        self._numbers: dict[CacheLayer, int] = {}

    def results(self, results: Sequence[ExportedResult]) -> tuple[CacheResult, ...]:
        """Give the newest result, if it has layers."""
        if not results:
            return ()
        best = max(results, key=lambda result: result.created)
        number = NO_PARENT
        for layer in best.remote:
            number = self._number(layer, number)
        return () if number == NO_PARENT else (CacheResult(number, best.created),)

    def _number(self, layer: Layer, parent: int) -> int:
        blob = layer.descriptor.digest
        self.by_blob.setdefault(blob, layer)
        chained = CacheLayer(blob, parent)
        if chained not in self._numbers:
            self._numbers[chained] = len(self.chained)
            self.chained.append(chained)
        return self._numbers[chained]
