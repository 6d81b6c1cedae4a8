"""`Node`: YAML with places and strict keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NoReturn

import yaml

from torana.core.errors import Position, SourceRange
from torana.core.records import dataclass
from torana.frontends.kit.suggest import suggest
from torana.frontends.kit.tree import Place
from torana.frontends.mockerfile.model import Text


@dataclass(frozen=True, slots=True)
class Node:
    """A value of a document; texts are as they are written (`3.10` stays that)."""

    _node: yaml.Node
    place: Place

    @classmethod
    def parse(cls, text: str, whole: Place) -> Node:
        """Read the one document of a file.

        Raises:
            BuildFileError: it is not YAML, or not one document.
        """
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as err:
            mark = err.problem_mark or err.context_mark
            place = whole if mark is None else _at(whole, mark, mark)
            raise place.error(f"not YAML: {err.problem or err.context}") from None
        except yaml.YAMLError as err:
            raise whole.error(f"not YAML: {err}") from None
        except RecursionError:
            raise whole.error("nested too deeply") from None
        if node is None:
            raise whole.error("the file is empty")
        return cls(node, _place(whole, node))

    def fields(self, known: Iterable[str], what: str) -> dict[str, Node]:
        """Give the values of a mapping by key.

        Raises:
            BuildFileError: no mapping, or a key that is unknown or there twice.
        """
        if not isinstance(self._node, yaml.MappingNode):
            self.refuse(f"{what} is not a mapping")
        known = list(known)
        found: dict[str, Node] = {}
        for key_node, value in self._node.value:
            key = Node(key_node, _place(self.place, key_node))
            name = key.text(f"a key of {what}").value
            if name not in known:
                near = suggest(name, known, ignore_case=True)
                hint = f"known: {', '.join(known)}" if near is None else f"did you mean `{near}`?"
                raise key.place.error(f"unknown key in {what}: `{name}`", hint=hint)
            if name in found:
                raise key.place.error(f"key twice in {what}: `{name}`")
            found[name] = Node(value, _place(self.place, value))
        return found

    def items(self, what: str) -> Sequence[Node]:
        """Give the items of a list; nothing counts as an empty one."""
        if self.is_empty:
            return ()
        if not isinstance(self._node, yaml.SequenceNode):
            self.refuse(f"{what} is not a list")
        return [Node(item, _place(self.place, item)) for item in self._node.value]

    def text(self, what: str) -> Text:
        if not isinstance(self._node, yaml.ScalarNode) or self.is_empty:
            self.refuse(f"{what} is not a text")
        return Text(str(self._node.value), self.place)

    def texts(self, what: str) -> Sequence[Text]:
        return [item.text(f"an item of {what}") for item in self.items(what)]

    @property
    def is_empty(self) -> bool:
        """Whether it is YAML's nothing: `key:` without a value, `null`, `~`."""
        return bool(self._node.tag == "tag:yaml.org,2002:null")

    def refuse(self, message: str) -> NoReturn:
        raise self.place.error(message)


def _place(within: Place, node: yaml.Node) -> Place:
    return _at(within, node.start_mark, node.end_mark)


def _at(file: Place, start: yaml.Mark, end: yaml.Mark) -> Place:
    first = Position(start.line + 1, start.column + 1)
    last = Position(end.line + 1, end.column + 1)
    if end.column == 0 and end.line > start.line:  # blocks end where the next one begins
        last = Position(end.line, 1)
    if last <= first:
        last = Position(first.line, first.column + 1)
    return Place(file.file, file.info, SourceRange(file.range.filename, first, last), file.within)
