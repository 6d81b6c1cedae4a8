"""`Lookup`: the half of an edge that works out its keys, and finds records by them.

Every key of an input is looked up and gives keys that the edge may have because of it; one that all
inputs agree on is a key of the edge. Nothing here asks or waits: news comes in, the state rises.

Spec: the solver reference, sections 5.1 and 5.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torana.core.solver import inputs as claims
from torana.core.solver.cache import CacheRecord
from torana.core.solver.export import KeyExporter
from torana.core.solver.inputs import CachedResult, Input, Inputs
from torana.core.solver.keys import CacheKey, ExportableKey, SelectedKey
from torana.core.solver.op import CacheMap
from torana.core.solver.pipe import EdgeState
from torana.core.solver.stores import CONTENT_OUTPUT

if TYPE_CHECKING:
    from torana.core.solver.graph import ActiveVertex


class Lookup:
    """What is known of one output of an active vertex."""

    __slots__ = (
        "_failed",
        "_known_ids",
        "_records",
        "cache_map",
        "has_keys_changed",
        "ignores_cache",
        "index",
        "inputs",
        "is_last_map",
        "is_match_impossible",
        "keys",
        "result",
        "root_digests",
        "state",
        "vertex",
    )

    def __init__(self, vertex: ActiveVertex, index: int) -> None:
        self.vertex = vertex
        self.index = index
        self.ignores_cache = vertex.vertex.options.ignore_cache
        self.state = EdgeState.INITIAL
        self.keys: list[ExportableKey] = []
        self.result: CachedResult | None = None
        self.inputs = Inputs(len(vertex.inputs))
        self.cache_map: CacheMap | None = None
        self.is_last_map = False
        self.root_digests: list[str] = []  # of all cache maps, of a vertex without inputs
        self.is_match_impossible = False  # no key of this edge is stored
        self.has_keys_changed = False  # since an equal edge was looked for
        self._records: dict[str, CacheRecord] = {}
        self._failed: set[str] = set()
        self._known_ids: set[str] = set()

    # News

    def take_map(self, answer: CacheMap, is_last: bool) -> None:
        """Take a cache map, and look up what is known of the inputs already."""
        self.cache_map, self.is_last_map = answer, is_last
        if not self.inputs.items:
            self._take_root_digest(answer.digest)
        self.inputs.describe(answer)
        if not self.inputs.any(claims.NO_KEY):
            self.has_keys_changed = True
        for item in self.inputs.items:
            selector = item.need.selector
            self._probe(item, [key.through(selector) for key in item.keys.values()])
            self._rise_for(item)

    def _take_root_digest(self, digest: str) -> None:
        self.root_digests.append(digest)
        if not self.ignores_cache:
            for key in self.vertex.cache.query((), 0, digest, self.index):
                self._add_key(key)
        if self.is_last_map or self.keys:
            self.state = EdgeState.CACHE_SLOW

    def take_input(self, item: Input, source: Lookup) -> None:
        """Take what has become known of an input."""
        fresh = [key for key in source.keys if key.key not in item.keys]
        item.keys.update((key.key, key) for key in fresh)
        has_changed = source.state != item.state
        is_completed = source.state == EdgeState.COMPLETE != item.state
        item.state = source.state
        item.result = source.result
        if self.cache_map is None:
            return
        if fresh or has_changed:
            self.inputs.refresh(item)
        if fresh:
            self._probe(item, [key.through(item.need.selector) for key in fresh])
        if is_completed or (fresh and not self.inputs.any(claims.NO_KEY)):
            self.has_keys_changed = True
        self._rise_for(item)

    def take_content(self, item: Input, digest: str | None) -> None:
        """Take the digest of an input's content; None if that does not count."""
        if digest is not None:
            self._take_content_digest(item, digest)
        item.is_content_done = True
        self.has_keys_changed = True
        self.inputs.refresh(item)
        self._rise_for(item)

    def _take_content_digest(self, item: Input, digest: str) -> None:
        assert self.cache_map is not None and item.result is not None
        key = CacheKey(digest, CONTENT_OUTPUT)
        item.content = content = SelectedKey(key, KeyExporter(key), None)
        item.has_found_content = self._probe(item, (content,))
        if not self.ignores_cache:
            # Asked together, so that the definition alone leads to the same keys next time.
            defined = [each.through(item.need.selector) for each in item.result.keys]
            self.vertex.cache.query(
                (*defined, content), item.position, self.cache_map.digest, self.index
            )

    # Keys and states

    def _probe(self, item: Input, selected: Sequence[SelectedKey]) -> bool:
        """Look up what this edge is if `item` has one of these keys; tells if that is news."""
        if not selected or self.ignores_cache:
            return False
        assert self.cache_map is not None
        found = self.vertex.cache.query(selected, item.position, self.cache_map.digest, self.index)
        is_new = False
        for key in found:
            is_new |= self.inputs.match(item, key)
        if is_new:
            self.inputs.refresh(item)
        return is_new

    def _add_key(self, key: CacheKey) -> None:
        """Take a key of this edge, and its records."""
        records = self.vertex.cache.records(key)
        for record in records:
            if record.id not in self._failed:
                self._records.setdefault(record.id, record)
        override = self.vertex.vertex.options.export_cache
        self.keys.append(ExportableKey(key, KeyExporter(key, records, override=override)))

    def _rise_for(self, item: Input) -> None:
        """Rise as far as one input allows that has no match, and see if there can be none."""
        if self.cache_map is None:
            return
        self.state = max(self.state, self.inputs.low(item))
        if not item.matches:
            if item.has_content:
                self.is_match_impossible |= item.is_content_done and not item.has_found_content
            else:
                self.is_match_impossible |= item.state >= EdgeState.CACHE_SLOW

    def rise(self) -> None:
        """Take keys that all inputs confirm, and rise as far as all inputs allow."""
        if self.cache_map is None or not self.inputs.items or self.result is not None:
            return
        confirmed, self.inputs.confirmed = self.inputs.confirmed, []
        for key in confirmed:
            if key.id not in self._known_ids:
                self._known_ids.add(key.id)
                alternatives = tuple(item.selected() for item in self.inputs.items)
                self._add_key(key.with_inputs(alternatives))
        self.state = max(self.state, self.inputs.high())
        if (
            self.state == EdgeState.CACHE_FAST
            and self._records
            and not self.inputs.any(claims.UNDECIDED)
            and not self.inputs.has_open_keys(self._known_ids)
        ):
            self.state = EdgeState.CACHE_SLOW  # hashing could only find what there is already

    # What comes of it

    @property
    def has_records(self) -> bool:
        return bool(self._records)

    def best_record(self) -> CacheRecord:
        """Give the newest record; there must be one."""
        return min(self._records.values(), key=lambda record: record.rank)

    def drop_record(self, record: CacheRecord) -> None:
        """Leave a record alone from now on: it could not be loaded."""
        self._failed.add(record.id)
        self._records.pop(record.id, None)

    @property
    def is_executable(self) -> bool:
        """Whether all inputs are there, made local and hashed."""
        return self.is_last_map and not self.inputs.any(claims.NOT_READY)

    def committed_keys(self) -> list[CacheKey]:
        """Give the keys to save an execution by: of each cache map, or made from all inputs."""
        assert self.cache_map is not None
        if not self.inputs.items:
            return [CacheKey(digest, self.index) for digest in self.root_digests]
        alternatives = tuple(item.selected() for item in self.inputs.items)
        return [CacheKey(self.cache_map.digest, self.index, alternatives)]

    @property
    def has_index_key(self) -> bool:
        """Whether an equal edge could be told by what is known of the inputs."""
        return self.cache_map is not None and not self.inputs.any(claims.NO_KEY)

    def index_key(self, digest: str, output: int) -> CacheKey | None:
        """Give the key by which an equal live edge is found, for one of its cache maps."""
        alternatives = []
        for item in self.inputs.items:
            selector = item.need.selector
            known = [key.through(selector) for key in item.keys.values()]
            if item.result is not None:
                known += item.selected()
            if not known:
                return None
            alternatives.append(tuple(known))
        return CacheKey(digest, output, tuple(alternatives))
