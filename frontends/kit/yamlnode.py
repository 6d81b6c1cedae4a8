"""`YamlNode`: YAML build files for authors, with places and strict keys.

Values are texts as they are written (`3.10` stays that). Time and memory are bounded; keys that are
there twice and tags are refused; anchors, aliases and `<<` work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NoReturn

from torana.core.errors import BuildFileError
from torana.core.records import dataclass
from torana.frontends.kit.diagnostics import attach
from torana.frontends.kit.suggest import suggest
from torana.frontends.kit.tree import Place
from torana.frontends.kit.yamlcomposer import compose
from torana.frontends.kit.yamltree import Items, Mark, Node, Scalar, Table


@dataclass(frozen=True, slots=True)
class YamlNode:
    """A value of a document. What each `what` says is for messages: `an image`, `the file`."""

    _node: Node
    place: Place

    @classmethod
    def parse(cls, whole: Place) -> YamlNode:
        """Read the one document of the file that `whole` is the place of.

        Raises:
            BuildFileError: it is empty, not YAML, or not one document.
        """
        try:
            node = compose(whole.file)
        except BuildFileError as err:
            for outer in () if whole.within is None else whole.within.stack():
                attach(err, outer.file, (outer.range,))
            raise
        if node is None:
            raise whole.error("the file is empty")
        return cls(node, _at(whole, node.mark))

    def fields(self, known: Iterable[str] | None, what: str) -> dict[str, YamlNode]:
        """Give the values of a mapping by key, in its order; with None any key is known.

        Raises:
            BuildFileError: no mapping, or a key that is unknown.
        """
        if not isinstance(self._node, Table):
            self.refuse(f"{what} is not a mapping")
        names = None if known is None else list(known)
        found: dict[str, YamlNode] = {}
        for name, entry in self._node.entries.items():
            if names is not None and name not in names:
                near = suggest(name, names, ignore_case=True)
                hint = f"known: {', '.join(names)}" if near is None else f"did you mean `{near}`?"
                place = _at(self.place, entry.key.mark)
                raise place.error(f"unknown key in {what}: `{name}`", hint=hint)
            found[name] = YamlNode(entry.node, _at(self.place, entry.node.mark))
        return found

    def items(self, what: str) -> Sequence[YamlNode]:
        """Give the items of a list; nothing counts as an empty one.

        Raises:
            BuildFileError: no list.
        """
        if self.is_empty:
            return ()
        if not isinstance(self._node, Items):
            self.refuse(f"{what} is not a list")
        return [YamlNode(item, _at(self.place, item.mark)) for item in self._node]

    def text(self, what: str) -> str:
        """Give a text as it is written, without quotes.

        Raises:
            BuildFileError: a list, a mapping or nothing.
        """
        if not isinstance(self._node, Scalar) or self.is_empty:
            self.refuse(f"{what} is not a text")
        return self._node.text

    @property
    def value(self) -> str | int | bool | None:
        """A text without quotes that is `true`, `false`, nothing or a whole number as that, any
        other text as it is written; None of lists and mappings.
        """
        return self._node.value if isinstance(self._node, Scalar) else None

    @property
    def is_empty(self) -> bool:
        """Whether it is YAML's nothing: `key:` without a value, `null`, `~`."""
        return isinstance(self._node, Scalar) and self._node.value is None

    def refuse(self, message: str, *, hint: str | None = None) -> NoReturn:
        """Fail with an error that points here.

        Raises:
            BuildFileError: always.
        """
        raise self.place.error(message, hint=hint)


def _at(within: Place, mark: Mark) -> Place:
    return Place(within.file, within.info, mark.range, within.within)
