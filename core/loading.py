"""`load`: a definition as the solver's graph, and what its vertices carry."""

from __future__ import annotations

from collections.abc import Mapping

from torana.core.errors import SourceExcerpt
from torana.core.llb import ops as o
from torana.core.llb.definition import Definition
from torana.core.llb.rewrite import LoadedGraph, load_graph
from torana.core.oci.digest import Digest
from torana.core.ops.names import vertex_name
from torana.core.records import dataclass
from torana.core.solver.cache import CacheSource
from torana.core.solver.vertex import Edge, ProgressGroup, Vertex, VertexOptions


@dataclass(frozen=True, slots=True)
class LLBVertex:
    """What a solver's vertex carries for us."""

    op: o.Op
    metadata: o.OpMetadata


def load(
    definition: Definition,
    *,
    ignore_cache: bool = False,
    sources: Mapping[Digest, o.SourceOp] | None = None,
    has_proxy_network: bool = False,
    cache_sources: tuple[CacheSource, ...] = (),
    entitlements: frozenset[str] = frozenset(),
) -> Edge:
    """Turn a definition into the solver's graph; no step may want more than `entitlements`.

    `sources` take the place of those of the definition, by digest: what policies made of them.

    Raises:
        InvalidLLBError: it is not valid.
        NotEntitledError: a step wants a right that was not granted.
    """
    loaded = load_graph(definition, sources=sources, has_proxy_network=has_proxy_network)
    graph = loaded.graph
    vertices: dict[Digest, Vertex] = {}
    excerpts = _excerpts(definition, loaded)
    for digest, op in graph.ordered.items():
        if isinstance(op.kind, o.ExecOp):
            from torana.core.ops.exec.entitlements import check_entitlements

            check_entitlements(op.kind, entitlements)
        original = loaded.originals[digest]
        metadata = definition.metadata.get(original, o.OpMetadata())
        inputs = tuple(Edge(vertices[item.digest], item.index) for item in op.inputs)
        group = metadata.progress_group
        options = VertexOptions(
            ignore_cache=metadata.ignore_cache or ignore_cache,
            export_cache=None if metadata.export_cache is None else metadata.export_cache.value,
            description=metadata.description,
            progress_group=None
            if group is None
            else ProgressGroup(group.id, group.name, group.weak),
            cache_sources=cache_sources,
        )
        names = [edge.vertex.name for edge in inputs]
        vertices[digest] = Vertex(
            digest=digest,
            name=vertex_name(op, description=metadata.description, inputs=names),
            inputs=inputs,
            sys=LLBVertex(op, metadata),
            options=options,
            sources=excerpts.get(digest, ()),
        )
    return Edge(vertices[graph.result.digest], graph.result.index)


def emptied_caches(edge: Edge) -> Mapping[str, bool]:
    """Give the ids of cache mounts of steps that ignore the cache; True where one has a base.

    Those are to start anew before the graph is solved.
    """
    found: dict[str, bool] = {}
    todo, known = [edge.vertex], {edge.vertex.digest}
    while todo:
        vertex = todo.pop()
        assert isinstance(vertex.sys, LLBVertex)
        kind = vertex.sys.op.kind
        if vertex.options.ignore_cache and isinstance(kind, o.ExecOp):
            for mount in kind.mounts:
                if mount.mount_type is o.MountType.CACHE:
                    id = (mount.cache_opt or o.CacheOpt()).id or mount.dest
                    found[id] = mount.input != -1
        for below in vertex.inputs:
            if below.vertex.digest not in known:
                known.add(below.vertex.digest)
                todo.append(below.vertex)
    return found


def _excerpts(
    definition: Definition, loaded: LoadedGraph
) -> Mapping[Digest, tuple[SourceExcerpt, ...]]:
    """Give the places of ops. A source without one has that of its user: `ADD https://...`."""
    if definition.source is None:
        return {}
    found: dict[Digest, tuple[SourceExcerpt, ...]] = {}
    for digest, op in reversed(list(loaded.graph.ordered.items())):
        own = definition.source.excerpts(loaded.originals[digest])
        found[digest] = own or found.get(digest, ())
        for item in op.inputs:
            kind = loaded.graph.ordered[item.digest].kind
            if isinstance(kind, o.SourceOp) and not kind.identifier.startswith("local://"):
                found[item.digest] = found[digest]  # the first user's counts, since it comes last
    return found


def is_shared(vertex: Vertex) -> bool:
    """Tell whether other builds may have done the work of a vertex."""
    assert isinstance(vertex.sys, LLBVertex)
    if vertex.options.ignore_cache:
        return False
    match vertex.sys.op.kind:
        case o.ExecOp() | o.FileOp():
            return True
        case o.SourceOp(identifier=identifier):
            return not identifier.startswith("local://")
    return False
