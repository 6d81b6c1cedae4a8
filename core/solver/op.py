"""What the solver knows of an op: `Op`, `CacheMap` and `Result`, nothing more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field
from typing import Any, Protocol, runtime_checkable

from torana.core.oci.digest import Digest
from torana.core.records import dataclass


@runtime_checkable
class Result(Protocol):
    """A reference-counted handle on one output of an op.

    Each handle is released exactly once; releasing twice is harmless. `clone` gives a new handle on
    the same data.
    """

    @property
    def id(self) -> str:
        """Stable id of the data, unique in its store; what cache records name."""
        ...

    def clone(self) -> Result: ...

    async def release(self) -> None: ...


ContentDigest = Callable[[Result], Awaitable[Digest | None]]
"""Digest of the parts of an input result that an op uses; None when it cannot be had."""

Preprocess = Callable[[Result], Awaitable[None]]
"""Makes an input result local (pull, extract) before it is hashed or used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheMapInput:
    """How one input enters the cache key of an op.

    `selector` is part of the key's link: equal inputs through different selectors do not match.
    """

    selector: Digest | None = None
    content_digest: ContentDigest | None = None
    preprocess: Preprocess | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheMap:
    """An op's answer to "what identifies you".

    `digest` may be `random:<hex>` for sources whose definition must never match. `inputs` has one
    entry per vertex input, in order. `options` travel to `exec` untouched.
    """

    digest: Digest
    inputs: tuple[CacheMapInput, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


class DefinedOp(Protocol):
    """What an op may have besides: its only cache map, if that takes no work to find out."""

    def define(self) -> CacheMap | None:
        """Give what `cache_map` gives, at once; None if that is to be asked after all."""
        ...


class Op(Protocol):
    """The work of one vertex. One instance serves one active vertex; the solver memoises calls."""

    async def cache_map(self, index: int) -> tuple[CacheMap, bool]:
        """Give the cache map number `index` and whether it is the last one.

        Only ops without inputs may have more than one.
        """
        ...

    async def exec(self, inputs: Sequence[Result]) -> Sequence[Result]:
        """Run on `inputs` (borrowed, not released here) and give all outputs (owned by the caller).

        Cancellation must stop everything that was started.
        """
        ...
