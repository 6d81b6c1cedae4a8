"""What the solver asks of a cache: `KeyStore` for the graph of keys, `ResultStore` for results.

A key is an id, local to one store. A link leads from the key of an input to the key of what was made
of it; a result hangs on a key. Calls of a `KeyStore` are short and made on the event loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torana.core.oci.digest import Digest
from torana.core.solver.op import Result


@dataclass(frozen=True, slots=True)
class Link:
    """How a key leads to another: as which input of which op, seen through which selector."""

    input: int
    output: int
    digest: Digest  # of the op's cache map
    selector: Digest | None = None


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A result on a key. `id` is the result store's; `created` is in seconds since the epoch."""

    id: str
    created: float


class KeyStore(Protocol):
    """The graph of keys, links and results. Conformance: `core.testing.keystores.KeyStoreSuite`.

    A key exists while it has a result or a link that starts from it.
    """

    @property
    def generation(self) -> int:
        """Counts up whenever keys or links may have been removed."""
        ...

    def exists(self, key: str) -> bool: ...

    def targets(self, keys: Sequence[str], link: Link) -> dict[str, set[str]]:
        """Give for each of `keys` the keys that `link` leads to; keys without any are left out."""
        ...

    def add_links(self, links: Iterable[tuple[str, Link, str]]) -> None:
        """Add (key, link, target) triples; those that exist are no error."""
        ...

    def back_links(self, key: str) -> list[tuple[str, Link]]:
        """Give the links that end at `key`, with the keys they start from, in a stable order."""
        ...

    def results(self, key: str) -> list[StoredResult]: ...

    def add_result(self, key: str, result: StoredResult) -> None:
        """Hang a result on a key; a second time replaces its creation time."""
        ...

    def result_ids(self) -> list[str]: ...

    def release(self, result_id: str) -> None:
        """Take a result off all keys.

        A key that has then neither a result nor a link that starts from it vanishes with the links
        that end at it, and so on towards the roots.
        """
        ...

    def flush(self) -> None:
        """Write what is still buffered."""
        ...


class ResultStore(Protocol):
    """Keeps results. None is a result too: an empty tree."""

    def exists(self, result_id: str) -> bool: ...

    async def load(self, result: StoredResult) -> Result | None:
        """Give a handle of the caller's own.

        Raises:
            NotFoundError: it is gone; any `ToranaError` makes the solver try something else.
        """
        ...

    async def save(self, result: Result | None, created: float) -> StoredResult:
        """Keep a result, which stays the caller's, and give its name."""
        ...


class CacheSource(Protocol):
    """Another cache that a vertex may use (`VertexOptions.cache_sources`), such as an import."""

    @property
    def id(self) -> str:
        """Tells sources apart; equal ids mean the same source."""
        ...

    @property
    def keys(self) -> KeyStore: ...

    @property
    def results(self) -> ResultStore: ...

    async def ready(self) -> None:
        """Return when `keys` can be asked; never fails: a source that cannot be had is empty."""
        ...
