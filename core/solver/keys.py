"""`CacheKey`: what a computation is known by, whatever store it lies in.

A root key is a digest and an output. A key with inputs has, for each of them, the alternatives by
which that input is known; in each store it has an id that the links there lead to.

Spec: the solver reference, section 7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torana.core.solver.stores import is_random, root_key

if TYPE_CHECKING:
    from torana.core.solver.export import Exporter


class CacheKey:
    """One key. Identity counts: equal keys that were made apart are different objects.

    `ids` holds the id per store, by the store's own id; `index_ids` belongs to `index.EdgeIndex`.
    """

    __slots__ = ("digest", "id", "ids", "index_ids", "inputs", "is_storable", "output")

    def __init__(
        self,
        digest: str,
        output: int,
        inputs: tuple[tuple[SelectedKey, ...], ...] = (),
        *,
        id: str = "",
    ) -> None:
        self.digest = digest
        self.output = output
        self.inputs = inputs
        self.id = id if inputs or id else root_key(digest, output)
        self.ids: dict[str, str] = {}
        self.index_ids: tuple[str, ...] = ()
        self.is_storable: bool = not is_random(digest) and _are_storable(inputs)

    def with_inputs(self, inputs: tuple[tuple[SelectedKey, ...], ...]) -> CacheKey:
        """Give the same key, known to be made from `inputs`."""
        key = CacheKey(self.digest, self.output, inputs, id=self.id)
        key.ids = self.ids
        return key


class ExportableKey(NamedTuple):
    """A key with what can write it, and all it was made from, to an exported cache."""

    key: CacheKey
    exporter: Exporter

    def through(self, selector: str | None) -> SelectedKey:
        return SelectedKey(self.key, self.exporter, selector)


class SelectedKey(NamedTuple):
    """A key of an input, and the selector it is looked at through; content keys have none."""

    key: CacheKey
    exporter: Exporter
    selector: str | None


def _are_storable(inputs: tuple[tuple[SelectedKey, ...], ...]) -> bool:
    """Tell whether each input has an alternative that is stored."""
    for alternatives in inputs:
        for each in alternatives:
            if each.key.is_storable:
                break
        else:
            return False
    return True
