"""`Graph` and `ActiveVertex`: what is being built, by everybody, and who needs it.

Vertices of equal digest are one, whatever job they come from. A vertex lives while a job holds it,
or a vertex whose op builds it from inside. Who holds a vertex holds all that it depends on,
including what its inputs were merged into.

Spec: the solver reference, sections 3, 8 and 9.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

from torana.core.errors import UserError
from torana.core.oci.digest import Digest
from torana.core.solver.cache import CacheSource, CombinedCache, StoreCache
from torana.core.solver.edge import ActiveEdge
from torana.core.solver.opcontext import OpContext
from torana.core.solver.progress import ProgressEvent
from torana.core.solver.reporter import Reporter
from torana.core.solver.sharedop import SharedOp

if TYPE_CHECKING:
    from torana.core.solver.job import Job
    from torana.core.solver.keys import ExportableKey
    from torana.core.solver.op import Op, Result
    from torana.core.solver.slots import Slots
    from torana.core.solver.vertex import Edge, Vertex


class ActiveVertex:
    """A vertex that somebody needs: its op, its edges, its holders."""

    __slots__ = (
        "_context",
        "_owned",
        "cache",
        "children",
        "cleanups",
        "edges",
        "graph",
        "inputs",
        "jobs",
        "op",
        "parents",
        "rank",
        "reporter",
        "sources",
        "table_key",
        "vertex",
    )

    def __init__(
        self,
        graph: Graph,
        vertex: Vertex,
        table_key: str,
        inputs: tuple[tuple[ActiveVertex, int], ...],
    ) -> None:
        self.graph = graph
        self.vertex = vertex
        self.table_key = table_key
        self.inputs = inputs
        self.rank = 0  # length of the longest chain of vertices that wait for this one
        self.jobs: dict[Job, None] = {}
        self.parents: dict[ActiveVertex, None] = {}
        self.children: dict[ActiveVertex, None] = {}
        self.edges: dict[int, ActiveEdge] = {}
        self.op = SharedOp(self)
        self.reporter: Reporter = Reporter(vertex, self)
        self.sources: dict[str, CacheSource] = {}
        self.cache = graph.plain_cache
        self._context: OpContext | None = None
        self.cleanups: list[Callable[[], Awaitable[None]]] = []
        self._owned: list[Result] = []

    @property
    def context(self) -> OpContext:
        if self._context is None:
            self._context = OpContext(self, self.graph.build_nested)
        return self._context

    def input_reporters(self) -> list[Reporter]:
        return [vertex.reporter for vertex, _ in self.inputs]

    def edge(self, index: int) -> ActiveEdge:
        """Give an output: the edge that it was merged into, if it was."""
        found = self.edges.get(index)
        if found is None:
            found = self.edges[index] = ActiveEdge(self, index)
        while found.owner is not None:
            found = found.owner
        return found

    def below(self) -> Iterator[ActiveVertex]:
        """Give the inputs, and what their edges were merged into."""
        for vertex, index in self.inputs:
            yield vertex
            edge = vertex.edges.get(index)
            if edge is not None and edge.owner is not None:
                yield vertex.edge(index).vertex

    def needed(self) -> Iterator[ActiveVertex]:
        """Give what must live as long as this vertex does."""
        yield from self.below()
        for edge in self.edges.values():
            if edge.owner is not None:
                yield edge.owner.vertex

    def own(self, result: Result | None) -> None:
        """Keep a handle, to be released when nobody needs the vertex any more."""
        if result is not None:
            self._owned.append(result)

    def audience(self) -> list[Job]:
        """Give the jobs that need this vertex, those of nested builds last."""
        if not self.parents:
            return list(self.jobs)
        found: dict[Job, None] = {}
        seen = {self}
        pending = [self]
        while pending:
            vertex = pending.pop()
            found.update(vertex.jobs)
            fresh = [parent for parent in vertex.parents if parent not in seen]
            seen.update(fresh)
            pending += fresh
        return list(found)

    def emit(self, event: ProgressEvent) -> None:
        for job in self.audience():
            job.emit(event)

    def add_sources(self, sources: tuple[CacheSource, ...]) -> None:
        """Look results up in these, too."""
        fresh = [each for each in sources if each.id not in self.sources]
        if fresh:
            self.sources.update((each.id, each) for each in fresh)
            self.cache = CombinedCache(self.graph.cache, list(self.sources.values()))

    async def release(self) -> None:
        """Give everything back; nothing may run any more."""
        owned, self._owned = self._owned, []
        for result in owned:
            await result.release()
        cleanups, self.cleanups = self.cleanups, []
        for cleanup in cleanups:
            await cleanup()


class Graph:
    """The table of active vertices."""

    def __init__(
        self,
        *,
        resolve_op: Callable[[Vertex, OpContext], Op],
        cache: StoreCache,
        slots: Slots,
        on_free_slot: Callable[[], None],
        build_nested: Callable[
            [ActiveVertex, Edge], Awaitable[tuple[Result | None, list[ExportableKey]]]
        ],
        forget_edge: Callable[[ActiveEdge], None],
    ) -> None:
        self.resolve_op = resolve_op
        self.cache = cache
        self.plain_cache = CombinedCache(cache)
        self.slots = slots
        self.on_free_slot = on_free_slot
        self.build_nested = build_nested
        self._forget_edge = forget_edge
        self._vertices: dict[str, ActiveVertex] = {}

    def __len__(self) -> int:
        return len(self._vertices)

    def __iter__(self) -> Iterator[ActiveVertex]:
        return iter(list(self._vertices.values()))

    # Loading

    def load(self, root: Vertex, holder: Job | ActiveVertex) -> ActiveVertex:
        """Give the active vertex of `root`; `holder` holds it, and all below, from now on.

        Raises:
            UserError: a nested build needs the vertex that it is built by.
        """
        if isinstance(holder, ActiveVertex):
            _refuse_cycle(root, holder)
        loaded: dict[Vertex, ActiveVertex] = {}
        pending = [root]
        while pending:
            vertex = pending[-1]
            missing = [each.vertex for each in vertex.inputs if each.vertex not in loaded]
            if vertex not in loaded and missing:
                pending.extend(missing)
                continue
            pending.pop()
            if vertex not in loaded:
                loaded[vertex] = self._load(vertex, loaded)
        self._rank(loaded[root], list(loaded.values()))
        self.hold(loaded[root], holder)
        if isinstance(holder, ActiveVertex):
            inherited = tuple(holder.sources.values())
            for each in loaded.values():
                each.add_sources(inherited)
        return loaded[root]

    def _load(self, vertex: Vertex, loaded: dict[Vertex, ActiveVertex]) -> ActiveVertex:
        key: str = vertex.digest
        ignores_cache = vertex.options.ignore_cache
        twin = str(Digest.of_text(f"{key}-ignorecache"))
        active = self._vertices.get(twin)
        if active is None:
            active = self._vertices.get(key)
            if active is not None and ignores_cache and not active.vertex.options.ignore_cache:
                key, active = twin, None
        if active is None:
            inputs = tuple((loaded[each.vertex], each.index) for each in vertex.inputs)
            active = self._vertices[key] = ActiveVertex(self, vertex, key, inputs)
        active.add_sources(vertex.options.cache_sources)
        return active

    @staticmethod
    def _rank(root: ActiveVertex, loaded: list[ActiveVertex]) -> None:
        """Note how much waits for each vertex; `loaded` has inputs before their users."""
        for vertex in reversed(loaded):
            for each, _ in vertex.inputs:
                each.rank = max(each.rank, vertex.rank + 1)

    # Holding

    def hold(self, root: ActiveVertex, holder: Job | ActiveVertex) -> None:
        """Keep `root` and what it needs alive for `holder`."""
        found: list[ActiveVertex] = []
        pending = [root]
        while pending:
            vertex = pending.pop()
            if isinstance(holder, ActiveVertex):
                if holder in vertex.parents:
                    continue
                vertex.parents[holder] = None
                holder.children[vertex] = None
            else:
                if vertex in holder.vertices:
                    continue
                vertex.jobs[holder] = None
                holder.vertices[vertex] = None
            found.append(vertex)
            pending += reversed(list(vertex.needed()))
        jobs = holder.audience() if isinstance(holder, ActiveVertex) else [holder]
        for vertex in reversed(found):
            for job in jobs:
                job.announce(vertex.reporter)

    def let_go(self, job: Job) -> list[ActiveVertex]:
        """End the hold of a job; gives the vertices that nobody needs any more."""
        dead: list[ActiveVertex] = []
        pending: list[ActiveVertex] = []
        for vertex in job.vertices:
            del vertex.jobs[job]
            pending.append(vertex)
        job.vertices.clear()
        while pending:
            vertex = pending.pop()
            if vertex.jobs or vertex.parents or self._vertices.get(vertex.table_key) is not vertex:
                continue
            del self._vertices[vertex.table_key]
            dead.append(vertex)
            for edge in vertex.edges.values():
                self._forget_edge(edge)
            for child in vertex.children:
                del child.parents[vertex]
                pending.append(child)
            vertex.children.clear()
        return dead

    # Merging

    def adopt(self, source: ActiveVertex, target: ActiveVertex) -> None:
        """Let all who hold `source` hold `target`, which does its work now."""
        for job in list(source.jobs):
            self.hold(target, job)
        for parent in list(source.parents):
            self.hold(target, parent)

    @staticmethod
    def depends(vertex: ActiveVertex, other: ActiveVertex) -> bool:
        """Tell whether `vertex` is `other`, or needs it."""
        seen = {vertex}
        pending = [vertex]
        while pending:
            current = pending.pop()
            if current is other:
                return True
            fresh = [each for each in current.below() if each not in seen]
            seen.update(fresh)
            pending += fresh
        return False

    @staticmethod
    def has_owner(vertex: ActiveVertex, owner: ActiveVertex) -> bool:
        """Tell whether edges of `vertex` were merged into `owner`, at once or over others."""
        seen = {vertex}
        pending = [vertex]
        while pending:
            for edge in pending.pop().edges.values():
                if edge.owner is None or edge.owner.vertex in seen:
                    continue
                if edge.owner.vertex is owner:
                    return True
                seen.add(edge.owner.vertex)
                pending.append(edge.owner.vertex)
        return False


def _refuse_cycle(root: Vertex, parent: ActiveVertex) -> None:
    """Refuse a nested build of `parent` that needs `parent`, or what `parent` is nested in."""
    above = {parent}
    climbing = [parent]
    while climbing:
        fresh = [each for each in climbing.pop().parents if each not in above]
        above.update(fresh)
        climbing += fresh
    forbidden = {each.vertex.digest for each in above}
    seen = {root}
    pending = [root]
    while pending:
        vertex = pending.pop()
        if vertex.digest in forbidden:
            raise UserError(f"a nested build needs the step that it is built by: `{vertex.name}`")
        found = [edge.vertex for edge in vertex.inputs if edge.vertex not in seen]
        seen.update(found)
        pending += found
