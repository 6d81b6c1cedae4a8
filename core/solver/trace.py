"""`trace`: what became of each vertex of a job, read off the graph when the job ends."""

from __future__ import annotations

from torana.core.records import dataclass
from torana.core.solver.edge import ActiveEdge
from torana.core.solver.graph import ActiveVertex
from torana.core.solver.job import Job
from torana.core.solver.op import Result
from torana.core.solver.progress import VertexEvent
from torana.core.solver.vertex import Vertex


@dataclass(frozen=True, slots=True)
class InputTrace:
    """One input: the selector it was looked at through, and its content's digest if it counted.

    `result` is borrowed, and there only if the input's result was needed.
    """

    vertex: Vertex
    selector: str
    content: str
    result: Result | None


@dataclass(frozen=True, slots=True)
class VertexTrace:
    """One vertex: its last event, and the digest of its own part of the key if it was asked for."""

    vertex: Vertex
    event: VertexEvent
    key: str
    inputs: tuple[InputTrace, ...]


def trace(job: Job) -> list[VertexTrace]:
    """Give the vertices of a job, inputs before their users; must come before it is discarded."""
    found: dict[ActiveVertex, VertexTrace] = {}
    pending = list(job.vertices)
    while pending:
        active = pending[-1]
        missing = [each for each, _ in active.inputs if each not in found]
        if active in found or not missing:
            pending.pop()
            if active not in found:
                found[active] = _trace(active)
        else:
            pending += missing
    return list(found.values())


def _trace(active: ActiveVertex) -> VertexTrace:
    edges = [active.edge(index) for index in active.edges]
    known = next((edge for edge in edges if edge.cache_map is not None), None)
    key = "" if known is None or known.cache_map is None else known.cache_map.digest
    return VertexTrace(active.vertex, active.reporter.event, key, _inputs(active, known))


def _inputs(active: ActiveVertex, edge: ActiveEdge | None) -> tuple[InputTrace, ...]:
    traces = []
    for position, (source, _) in enumerate(active.inputs):
        selector, content, result = "", "", None
        # An edge that others were merged into has as many inputs, of its own vertex.
        if edge is not None and position < len(edge.inputs.items):
            item = edge.inputs.items[position]
            selector = item.need.selector or ""
            content = "" if item.content is None else item.content.key.digest
            result = None if item.result is None else item.result.result
        traces.append(InputTrace(source.vertex, selector, content, result))
    return tuple(traces)
