"""`CacheKey`: a node of the key graph as the solver sees it, whatever stores know of it.

A key is an op's digest and output plus, for each input, the alternative keys that the input has. The
same key has another id in each cache; ids are found on demand and remembered here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torana.core.oci.digest import Digest

if TYPE_CHECKING:
    from torana.core.solver.cache import Record
    from torana.core.solver.index import Place

CONTENT_OUTPUT = -1  # output index of keys that are made from content


def root_key(digest: Digest, output: int) -> str:
    """Give the id of a key without inputs, equal in every store."""
    if digest.startswith("random:"):
        return digest
    return "sha256:" + hashlib.sha256(f"{digest}@{output}".encode()).hexdigest()


@dataclass(eq=False, slots=True)
class CacheKey:
    """One key; identity is the object.

    `ids` maps cache ids to key ids. `records` are the results known when the key was made, and
    `secondary` the keys that merged vertices had for its inputs: both are for cache export.
    """

    digest: Digest
    output: int
    inputs: tuple[tuple[SelectedKey, ...], ...] = ()
    vertex: Digest | None = None
    can_export: bool = True
    ids: dict[str, str] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    nested: tuple[CacheKey, ...] = ()  # of builds that the op ran: exported along with this one
    secondary: list[tuple[int, SelectedKey]] = field(default_factory=list)
    linked: dict[str, int] = field(default_factory=dict)  # cache id to generation of its store
    places: list[Place] = field(default_factory=list)  # in the index of live edges

    def __repr__(self) -> str:
        return f"CacheKey({self.digest[:15]}@{self.output}, {len(self.inputs)} inputs)"


@dataclass(frozen=True, slots=True)
class SelectedKey:
    """A key of an input, as seen through a selector."""

    key: CacheKey
    selector: Digest | None = None


def select(keys: Sequence[CacheKey], selector: Digest | None) -> list[SelectedKey]:
    """See several keys through one selector."""
    return [SelectedKey(key, selector) for key in keys]


def content_key(digest: Digest) -> CacheKey:
    """Make the key that stands for an input's content."""
    return CacheKey(digest, CONTENT_OUTPUT)


class CachedResult:
    """A handle on a result together with the keys that it is known by; released exactly once."""

    __slots__ = ("_is_released", "keys", "result")

    def __init__(self, result: Any, keys: Sequence[CacheKey]) -> None:
        self.result = result  # a Result, or None for an empty tree
        self.keys = tuple(keys)
        self._is_released = False

    def clone(self) -> CachedResult:
        assert not self._is_released, "clone of a released result"
        return CachedResult(None if self.result is None else self.result.clone(), self.keys)

    async def release(self) -> None:
        """Give the handle back; a second time does nothing."""
        if self._is_released:
            return
        self._is_released = True
        if self.result is not None:
            await self.result.release()
