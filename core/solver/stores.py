"""What the solver needs of cache stores: `KeyStore` for keys and links, `ResultStore` for results.

A key names a computation, a record a stored result of it. A link says: the op with `digest`, given
the key `from_id` at input `position` through `selector`, has at `output` the key `target_id`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from torana.core.oci.digest import Digest
from torana.core.solver.op import Result

CONTENT_OUTPUT: Final = -1
"""Output index of keys made from the content of a result."""


@dataclass(frozen=True, slots=True)
class Record:
    """A stored result of a key; `id` is what the result store knows it by."""

    id: str
    created: float


def is_random(digest: str) -> bool:
    """Tell whether `digest` never matches anything and is never stored."""
    return digest.startswith("random:")


def root_key(digest: str, output: int) -> str:
    """Give the key id of something without inputs; content keys have `CONTENT_OUTPUT`."""
    return digest if is_random(digest) else Digest.of_text(f"{digest}@{output}")


class KeyStore(Protocol):
    """Keys, links and records. Calls are short and come from the event loop."""

    def root_key(self, digest: str, output: int) -> str: ...

    def query(
        self, inputs: Iterable[str], position: int, digest: str, output: int, selector: str | None
    ) -> set[str]:
        """Give the targets of the links from any of the keys `inputs`."""
        ...

    def records(self, key_id: str) -> list[Record]:
        """Give the records of a key, newest first."""
        ...

    def save(self, key_id: str, record_id: str, created: float) -> None:
        """Add a record to a key; the same record again gets the new time."""
        ...

    def link(
        self,
        from_id: str,
        position: int,
        output: int,
        digest: str,
        selector: str | None,
        target_id: str,
    ) -> None: ...

    def drop(self, record_id: str) -> None:
        """Remove a record from all keys: its result is gone."""
        ...


class ResultStore(Protocol):
    """Results that outlive the build; None is the empty tree (scratch)."""

    async def load(self, record_id: str) -> Result | None:
        """Give a handle that the caller releases.

        Raises:
            NotFoundError: the result is gone.
        """
        ...

    def record_id(self, result: Result | None) -> str | None:
        """Give the id to store `result` by; None when it cannot be stored (local trees)."""
        ...

    def exists(self, record_id: str) -> bool: ...
