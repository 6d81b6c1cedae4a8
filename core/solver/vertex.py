"""`Vertex` and `Edge`: the graph that the solver works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any

from torana.core.errors import SourceExcerpt
from torana.core.oci.digest import Digest
from torana.core.records import dataclass

if TYPE_CHECKING:
    from torana.core.solver.cache import CacheSource


@dataclass(frozen=True, slots=True)
class ProgressGroup:
    """Vertices with the same `id` are displayed as one; weak groups keep vertex names."""

    id: str
    name: str = ""
    weak: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VertexOptions:
    """What belongs to a vertex and never to its digest.

    `cache_sources` are consulted besides the main store.
    """

    ignore_cache: bool = False
    export_cache: bool | None = None
    description: Mapping[str, str] = field(default_factory=dict)
    progress_group: ProgressGroup | None = None
    cache_sources: tuple[CacheSource, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Vertex:
    """One op of a definition, its inputs resolved. Identity is `digest`.

    `sys` is what the op resolver (handed to the solver) understands, for LLB an
    `llb.Op` with its platform; the solver never looks into it. `sources` are excerpts of the build
    file that made it, attached to errors.
    """

    digest: Digest
    name: str
    inputs: tuple[Edge, ...]
    sys: Any
    options: VertexOptions = field(default_factory=VertexOptions)
    sources: tuple[SourceExcerpt, ...] = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vertex) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)


@dataclass(frozen=True, slots=True)
class Edge:
    """Output number `index` of `vertex`; what the solver solves."""

    vertex: Vertex
    index: int = 0
