"""What the solver needs of cache stores: `KeyStore` for keys and links, `ResultStore` for results.

A key names a computation, a record a stored result of it. A link says: the op with `digest`, given
the source key at input `position` through `selector`, has at `output` the target key. Ids of keys
are local to a store, except those of root keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, Protocol

from torana.core.oci.digest import Digest
from torana.core.records import dataclass
from torana.core.solver.op import Result

CONTENT_OUTPUT: Final = -1
"""Output index of keys made from the content of a result."""


class Link(NamedTuple):
    """How one key leads to another; an absent selector is None."""

    position: int
    output: int
    digest: str
    selector: str | None


@dataclass(frozen=True, slots=True)
class Record:
    """A stored result of a key; `id` is what the result store knows it by."""

    id: str
    created: float  # seconds since the epoch


def is_random(digest: str) -> bool:
    """Tell whether `digest` never matches anything and is never stored."""
    return digest.startswith("random:")


def root_key(digest: str, output: int) -> str:
    """Give the key id of something without inputs; content keys have `CONTENT_OUTPUT`."""
    return digest if is_random(digest) else Digest.of_text(f"{digest}@{output}")


class KeyStore(Protocol):
    """Keys, links and records. Calls are short and come from the event loop.

    What was written may be kept back until `flush`, but is seen by reads at once.
    """

    def exists(self, key_id: str) -> bool:
        """Tell whether a key has records, or leads to others."""
        ...

    def targets(self, key_id: str, link: Link) -> set[str]:
        """Give the keys that `link` leads to from `key_id`."""
        ...

    def add_link(self, key_id: str, link: Link, target_id: str) -> None: ...

    def records(self, key_id: str) -> list[Record]:
        """Give the records of a key, newest first."""
        ...

    def add_record(self, key_id: str, record: Record) -> None:
        """Add a record to a key; the same record again gets the new time."""
        ...

    def release(self, record_id: str) -> None:
        """Remove a record, and the keys and links that then lead to no record any more."""
        ...

    def back_links(self, key_id: str) -> Iterable[tuple[str, Link]]:
        """Give the keys that lead to `key_id`, and how; sorted."""
        ...

    def keys_of(self, record_id: str) -> list[str]:
        """Give the keys that have a record; sorted."""
        ...

    def record_ids(self) -> list[str]: ...

    def flush(self) -> None:
        """Bring what was kept back to the store.

        Raises:
            OSError: it cannot be written; it is kept for another try.
        """
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


class ChainedResultStore(ResultStore, Protocol):
    """A result store that gives along with a result those of its ancestors that it consists of."""

    async def load_chain(self, key_id: str, record_id: str) -> Mapping[str, Result | None]:
        """Give handles by id of their key, `key_id`'s included; all are the caller's."""
        ...


def prune_missing(keys: KeyStore, results: ResultStore) -> list[str]:
    """Release records whose results are gone; gives their ids. For start-up and after GC."""
    missing = [record for record in keys.record_ids() if not results.exists(record)]
    for record in missing:
        keys.release(record)
    keys.flush()
    return missing
