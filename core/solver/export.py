"""Exporting a cache: from the keys of results down to everything they were made from.

A `KeyExporter` belongs to a key and its records. `export_keys` walks them, inputs before what is
made from them, and hands digest, links and results to a target, which gives back records to link
to. Ways to a key that other builds have left in the store are followed, too, back from the key.

Spec: the solver reference, section 14; the cache reference, sections 5 and 7.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import field
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from torana.core.errors import NotFoundError
from torana.core.oci.digest import Digest, InvalidDigestError
from torana.core.records import dataclass
from torana.core.solver.cache import CacheRecord, StoreCache
from torana.core.solver.keys import CacheKey, ExportableKey
from torana.core.solver.stores import is_random, root_key

if TYPE_CHECKING:
    from torana.core.solver.edge import ActiveEdge
    from torana.core.solver.op import Result


class ExportMode(Enum):
    """Which results go along with the keys."""

    MIN = "min"  # the nearest to the end; below it only what needs no work
    MAX = "max"  # all
    REMOTE_ONLY = "remote-only"  # what needs no work


@dataclass(frozen=True, slots=True)
class ExportedLink:
    """One alternative of an input: a record of the target, seen through a selector."""

    record: Any
    selector: str | None


@dataclass(frozen=True, slots=True)
class ExportedResult:
    """A result as the target stores it, with its original time."""

    created: float  # seconds since the epoch
    remote: Any


class ExportTarget(Protocol):
    """Takes records."""

    def add(
        self,
        digest: str,
        inputs: Sequence[Sequence[ExportedLink]],
        results: Sequence[ExportedResult],
    ) -> Any | None:
        """Take a record and give something to link to it by; None if it is not exported.

        The same record may come several times, with more links and results.
        """
        ...


Remotes = Callable[["Result | None", bool], Awaitable[Sequence[Any]]]
"""Gives a result in exportable forms, best first: with True those at hand, else it makes one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """How to export. `has_roots` exports results of what has no inputs, too.

    `stores` are asked for more ways to the keys, left by other builds.
    """

    mode: ExportMode = ExportMode.MIN
    remotes: Remotes
    has_roots: bool = False
    stores: Sequence[StoreCache] = ()


@dataclass(eq=False, slots=True)
class KeyExporter:
    """A key with its records. `edge` knows of more ways to it; `override` is the vertex's wish."""

    key: CacheKey
    records: Sequence[CacheRecord] = ()
    edge: ActiveEdge | None = None
    override: bool | None = None


@dataclass(eq=False, slots=True)
class MergedExporter:
    """Several exporters that stand for one result."""

    parts: list[KeyExporter | MergedExporter] = field(default_factory=list)


Exporter = KeyExporter | MergedExporter


async def export_keys(
    keys: Iterable[ExportableKey], target: ExportTarget, options: ExportOptions
) -> list[Any]:
    """Export results by their keys; gives the records of the results themselves."""
    walk = _Walk(target, options)
    found: list[Any] = []
    for key in keys:
        found += await walk.run(key.exporter)
    return found


@dataclass(slots=True)
class _Visit:
    """A key on the way down, and again on the way up."""

    exporter: KeyExporter
    mode: ExportMode
    results: list[ExportedResult] = field(default_factory=list)
    record: CacheRecord | None = None
    is_entered: bool = False


class _Walk:
    """One export. Every exporter and every stored key is taken once, so that it stays linear."""

    def __init__(self, target: ExportTarget, options: ExportOptions) -> None:
        self._target = target
        self._options = options
        self._done: dict[KeyExporter, list[Any]] = {}
        self._stored: dict[tuple[str, str], list[Any]] = {}

    async def run(self, exporter: Exporter) -> list[Any]:
        pending = [_Visit(each, self._options.mode) for each in reversed(_flat(exporter))]
        while pending:
            visit = pending[-1]
            if not visit.is_entered:
                if visit.exporter in self._done:
                    pending.pop()
                    continue
                visit.is_entered = True
                self._done[visit.exporter] = []
                await self._take_results(visit)
                mode = visit.mode
                if visit.results and mode == ExportMode.MIN:
                    mode = ExportMode.REMOTE_ONLY
                below = [each for each, _, _ in _alternatives(visit.exporter)]
                pending += [_Visit(each, mode) for each in reversed(below)]
                continue
            pending.pop()
            self._done[visit.exporter] = self._add(visit)
        return [record for each in _flat(exporter) for record in self._done[each]]

    async def _take_results(self, visit: _Visit) -> None:
        """Find the newest record that can be exported."""
        exporter, options = visit.exporter, self._options
        is_wanted = exporter.override is not False
        if not is_wanted or not (exporter.key.inputs or options.has_roots):
            return
        for record in sorted(exporter.records, key=lambda record: record.rank):
            try:
                loaded = await record.source.load(record)
            except NotFoundError:
                continue
            try:
                result = loaded[0].result
                remotes = list(await options.remotes(result, True))
                if not remotes and visit.mode != ExportMode.REMOTE_ONLY:
                    remotes = list(await options.remotes(result, False))
            finally:
                for each in loaded:
                    if each.result is not None:
                        await each.result.release()
            visit.record = record
            visit.results += [ExportedResult(record.created, remote) for remote in remotes]
            return

    def _add(self, visit: _Visit) -> list[Any]:
        exporter = visit.exporter
        key = exporter.key
        links: list[list[ExportedLink]] = [[] for _ in key.inputs]
        for each, position, selector in _alternatives(exporter):
            for record in self._done.get(each, ()):
                link = ExportedLink(record, selector)
                if link not in links[position]:
                    links[position].append(link)
        for store in self._options.stores:
            if store.id in key.ids:
                self._stored_way(store, key.ids[store.id])
        if not all(links):
            return []  # an input cannot be told any more: the record would match by nothing
        digest = root_key(key.digest, key.output)
        if is_random(digest):
            return []
        if not key.inputs and visit.record is not None:
            self._add_equal_roots(visit)
        added = self._target.add(digest, links, visit.results)
        return [] if added is None else [added]

    def _add_equal_roots(self, visit: _Visit) -> None:
        """Add the other root keys that the same result is stored by."""
        record = visit.record
        assert record is not None
        source = record.source
        if not isinstance(source, StoreCache):
            return
        own = source.key_id(record.key)
        for key_id in source.keys.keys_of(record.id):
            if key_id != own and _is_digest(key_id) and not list(source.keys.back_links(key_id)):
                self._target.add(key_id, [], visit.results)

    def _stored_way(self, source: StoreCache, key_id: str) -> None:
        """Add the ways to a key that a store knows of, back to the roots."""
        pending = [(key_id, False)]
        while pending:
            current, is_entered = pending.pop()
            place = (source.id, current)
            if not is_entered:
                if place in self._stored:
                    continue
                self._stored[place] = []
                pending.append((current, True))
                pending += [(each, False) for each, _ in source.keys.back_links(current)]
                continue
            self._stored[place] = self._add_stored(source, current)

    def _add_stored(self, source: StoreCache, key_id: str) -> list[Any]:
        by_op: dict[str, dict[int, list[ExportedLink]]] = {}
        for origin, link in source.keys.back_links(key_id):
            inputs = by_op.setdefault(source.exported_digest(link), {})
            records = self._stored.get((source.id, origin), [])
            inputs.setdefault(link.position, []).extend(
                ExportedLink(record, link.selector) for record in records
            )
        if not by_op:
            if not _is_digest(key_id):
                return []
            added = self._target.add(key_id, [], [])
            return [] if added is None else [added]
        found = []
        for digest, inputs in by_op.items():
            links = [inputs.get(position, []) for position in range(max(inputs) + 1)]
            if all(links):
                added = self._target.add(digest, links, [])
                if added is not None:
                    found.append(added)
        return found


def _is_digest(key_id: str) -> bool:
    try:
        Digest.parse(key_id)
    except InvalidDigestError:
        return False
    return True


def _flat(exporter: Exporter) -> list[KeyExporter]:
    if isinstance(exporter, KeyExporter):
        return [exporter]
    return [each for part in exporter.parts for each in _flat(part)]


def _alternatives(exporter: KeyExporter) -> list[tuple[KeyExporter, int, str | None]]:
    """Give what an exporter's inputs are known by: exporter, position, selector."""
    below = [
        (position, each)
        for position, alternatives in enumerate(exporter.key.inputs)
        for each in alternatives
    ]
    if exporter.edge is not None:
        below += exporter.edge.secondary
    return [
        (one, position, each.selector) for position, each in below for one in _flat(each.exporter)
    ]
