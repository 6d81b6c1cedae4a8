"""`rewrite`: a definition with other sources, and the digests that its ops have then.

An op that nothing changed in keeps its bytes, and so its digest; what depends on a changed one is
encoded again with the new digest. Filling in a platform is no change: digests are of what was sent.

Spec: the solver reference, section 2, steps 3 to 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from torana.core.llb import ops as o
from torana.core.llb.codec import encode
from torana.core.llb.definition import Definition, Locations, SourceMap
from torana.core.llb.validate import Graph, validate
from torana.core.oci.digest import Digest
from torana.core.records import dataclass

_PROXY_MARK: Final = b"\0buildkit.proxy-network.v0"


@dataclass(frozen=True, slots=True)
class LoadedGraph:
    """A checked graph under its own digests; `originals` leads back to those that were sent.

    Metadata and places in build files are looked up by the original digest.
    """

    graph: Graph
    originals: Mapping[Digest, Digest]


def load_graph(
    definition: Definition,
    *,
    sources: Mapping[Digest, o.SourceOp] | None = None,
    has_proxy_network: bool = False,
) -> LoadedGraph:
    """Check a definition and put `sources`, by original digest, in the place of its own.

    With `has_proxy_network` exec ops whose network is recorded get digests apart.

    Raises:
        InvalidLLBError: it is not valid.
    """
    graph = validate(definition)
    if not sources and not has_proxy_network:
        return LoadedGraph(graph, {digest: digest for digest in graph.ordered})
    encoded = dict(zip(definition.digests(), definition.ops, strict=True))
    renamed: dict[Digest, Digest] = {}
    ordered: dict[Digest, o.Op] = {}
    originals: dict[Digest, Digest] = {}
    for original, op in graph.ordered.items():
        changed = _changed(op, renamed, (sources or {}).get(original))
        data = encoded[original] if changed is op else encode(changed)
        is_proxied = has_proxy_network and _is_recorded(changed)
        digest = Digest.of(data + _PROXY_MARK if is_proxied else data)
        renamed[original] = digest
        ordered[digest] = changed
        originals.setdefault(digest, original)
    result = replace(graph.result, digest=renamed[graph.result.digest])
    return LoadedGraph(Graph(ordered, result), originals)


def rewrite(definition: Definition, sources: Mapping[Digest, o.SourceOp]) -> Definition:
    """Give the definition with `sources`, by digest, in the place of its own.

    Raises:
        InvalidLLBError: it is not valid.
    """
    loaded = load_graph(definition, sources=sources)
    encoded = dict(zip(definition.digests(), definition.ops, strict=True))
    ops = [
        encoded[original] if digest == original else encode(loaded.graph.ordered[digest])
        for digest, original in loaded.originals.items()
    ]
    renamed = {original: digest for digest, original in loaded.originals.items()}
    metadata: dict[str, o.OpMetadata] = {
        renamed[Digest(original)]: found
        for original, found in definition.metadata.items()
        if original in renamed
    }
    places = definition.source
    if places is not None:
        locations: dict[str, Locations] = {
            renamed[Digest(original)]: found
            for original, found in places.locations.items()
            if original in renamed
        }
        places = SourceMap(locations, places.infos)
    terminal = encode(o.Op(inputs=(loaded.graph.result,)))
    return Definition((*ops, terminal), metadata, places)


def _changed(op: o.Op, renamed: Mapping[Digest, Digest], source: o.SourceOp | None) -> o.Op:
    """Give `op` itself where nothing changed."""
    if source is not None and source != op.kind:
        op = replace(op, kind=source)
    inputs = tuple(replace(item, digest=renamed[item.digest]) for item in op.inputs)
    return op if inputs == op.inputs else replace(op, inputs=inputs)


def _is_recorded(op: o.Op) -> bool:
    return isinstance(op.kind, o.ExecOp) and op.kind.network in (o.NetMode.UNSET, o.NetMode.HOST)
