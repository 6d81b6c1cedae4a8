"""From a graph under construction to a `Definition`: order, numbering and metadata of BuildKit.

Depth first from the result, inputs before users, each op once (equal bytes are one op). Iterative,
so that a chain may be as long as memory allows.
"""

from __future__ import annotations

from collections.abc import Mapping

from torana.core.llb import ops as o
from torana.core.llb.codec import encode
from torana.core.llb.definition import (
    Definition,
    Location,
    Locations,
    Range,
    SourceInfo,
    SourceMap,
)
from torana.core.llb.vertices import GivenVertex, Output, SourceLocation, Target, Vertex
from torana.core.oci.digest import Digest


def marshal(output: Output, target: Target) -> Definition:
    """Give the definition whose result is `output`."""
    collector = _Collector(target)
    for vertex in _in_order(output.vertex):
        collector.add(vertex)
    return collector.finish(output)


def _in_order(root: Vertex) -> list[Vertex]:
    """Give vertices depth first, inputs before users."""
    done: set[int] = set()
    ordered: list[Vertex] = []
    stack = [(root, iter(root.visits))]
    entered = {id(root)}
    while stack:
        vertex, remaining = stack[-1]
        for output in remaining:
            if id(output.vertex) not in done and id(output.vertex) not in entered:
                entered.add(id(output.vertex))
                stack.append((output.vertex, iter(output.vertex.visits)))
                break
        else:
            stack.pop()
            done.add(id(vertex))
            ordered.append(vertex)
    return ordered


class _Collector:
    def __init__(self, target: Target) -> None:
        self._target = target
        self._digests: dict[int, Digest] = {}
        self._ops: dict[Digest, bytes] = {}
        self._metadata: dict[str, o.OpMetadata] = {}
        self._infos: dict[int, tuple[int, SourceInfo]] = {}  # by identity: number and file
        self._locations: dict[str, list[Location]] = {}

    def add(self, vertex: Vertex) -> None:
        if isinstance(vertex, GivenVertex):
            data, metadata = vertex.data, vertex.metadata
        else:
            data = encode(vertex.op(self._resolve, self._target))
            metadata = vertex.options.metadata(vertex.caps(self._target))
        digest = Digest.of(data)
        self._digests[id(vertex)] = digest
        known = self._metadata.get(digest)
        self._metadata[digest] = metadata if known is None else known.merged(metadata)
        for location in vertex.options.location:
            self._locate(digest, location)
        self._ops.setdefault(digest, data)

    def _resolve(self, output: Output) -> o.Input:
        return o.Input(self._digests[id(output.vertex)], output.index)

    def _locate(self, digest: Digest, location: SourceLocation) -> None:
        index, _ = self._infos.setdefault(id(location.info), (len(self._infos), location.info))
        ranges = tuple(Range(r.start, r.end) for r in location.ranges)
        self._locations.setdefault(digest, []).append(Location(index, ranges))

    def finish(self, output: Output) -> Definition:
        terminal = encode(o.Op(inputs=(self._resolve(output),)))
        caps = {"constraints": True, "platform": True}
        if any(m.description for m in self._metadata.values()):
            caps["meta.description"] = True
        if any(m.ignore_cache for m in self._metadata.values()):
            caps["meta.ignorecache"] = True
        if any(m.export_cache is not None for m in self._metadata.values()):
            caps["meta.exportcache"] = True
        metadata = {**self._metadata, Digest.of(terminal): o.OpMetadata(caps=caps)}
        return Definition((*self._ops.values(), terminal), metadata, self._source_map())

    def _source_map(self) -> SourceMap:
        locations: Mapping[str, Locations] = {
            digest: Locations(tuple(found)) for digest, found in self._locations.items()
        }
        return SourceMap(locations, tuple(info for _, info in self._infos.values()))
