"""`compose`: YAML text of a build file to nodes, in bounded time and memory.

PyYAML's events are composed here, not by PyYAML: limits hold for each event, scalars stay text,
keys must differ, anchors and merge keys are resolved on nodes. No stack of Python grows with the
depth of a file.

Spec: YAML 1.2 but for its type rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import Any, Final

import yaml

from torana.core.errors import BuildFileError
from torana.core.records import dataclass
from torana.frontends.kit.diagnostics import SourceFile
from torana.frontends.kit.yamltree import Entry, Items, Mark, Node, Scalar, Table

MAX_BYTES: Final = 4 << 20
MAX_NODES: Final = 250_000  # aliases count as what they stand for
MAX_DEPTH: Final = 32
_LOADER: Final[Any] = getattr(yaml, "CLoader", yaml.Loader)
_MERGE: Final = "<<"


def compose(file: SourceFile) -> Node | None:
    """Compose a build file, None if there is nothing in it.

    Raises:
        BuildFileError: it is no YAML, too big or too deep, or has keys twice; located.
    """
    if len(file.data) > MAX_BYTES:
        raise start_of(file).error(f"the file has more than {MAX_BYTES >> 20} MiB")
    try:
        text = file.data.decode("utf-8")
    except UnicodeDecodeError as err:
        line = file.data.count(b"\n", 0, err.start) + 1
        raise Mark(file, line, 1, line, 2).error("the file is not UTF-8") from err
    try:
        return _Composer(file).compose(iter(yaml.parse(text, Loader=_LOADER)))
    except yaml.YAMLError as err:
        raise _syntax_error(file, text, err) from err


def start_of(file: SourceFile) -> Mark:
    """Give the place of the first character."""
    return Mark(file, 1, 1, 1, 2)


@dataclass(slots=True)
class _Open:
    """A collection whose end has not come; of mappings the key that waits for its value."""

    mark: Mark
    anchor: str | None
    is_table: bool
    is_flow: bool
    items: list[Node] = field(default_factory=list)
    entries: dict[str, Entry] = field(default_factory=dict)
    merged: list[Node] = field(default_factory=list)
    key: Scalar | None = None


@dataclass(slots=True)
class _Composer:
    file: SourceFile
    anchors: dict[str, Node] = field(default_factory=dict)
    opened: set[str] = field(default_factory=set)
    stack: list[_Open] = field(default_factory=list)
    root: Node | None = None
    documents: int = 0

    def compose(self, events: Iterator[Any]) -> Node | None:
        for event in events:
            match event:
                case yaml.ScalarEvent():
                    self._untagged(event)
                    is_plain = event.style in (None, "")  # the C parser says ""
                    node = Scalar(event.value, self._mark(event), is_plain)
                    self._done(node, event.anchor)
                case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                    self._open(event)
                case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                    self._close(event)
                case yaml.AliasEvent():
                    self._alias(event)
                case yaml.DocumentStartEvent():
                    self.documents += 1
                    if self.documents > 1:
                        raise self._mark(event).error("a build file is one document")
        return self.root

    def _mark(self, event: Any) -> Mark:
        start, end = event.start_mark, event.end_mark
        end_line, end_column = end.line + 1, end.column + 1
        if end_column == 1 and end_line > start.line + 1:  # a block ends where the next begins
            end_line, end_column = end_line - 1, 1 << 16
            if getattr(event, "style", None) == "|":  # without blank lines behind it
                lines = event.value.rstrip("\n").count("\n") + 1
                end_line = min(end_line, start.line + 1 + lines)
        return Mark(self.file, start.line + 1, start.column + 1, end_line, end_column)

    def _untagged(self, event: Any) -> None:
        if event.tag is not None and event.tag != "!":
            raise self._mark(event).error(
                f"tags have no meaning here: `{_short(event.tag)}`",
                hint="values are text as written; no tag is needed",
            )

    def _open(self, event: Any) -> None:
        self._untagged(event)
        if len(self.stack) >= MAX_DEPTH:
            raise self._mark(event).error(f"more than {MAX_DEPTH} levels deep")
        is_table = isinstance(event, yaml.MappingStartEvent)
        if event.anchor is not None:
            self.opened.add(event.anchor)
        self.stack.append(_Open(self._mark(event), event.anchor, is_table, bool(event.flow_style)))

    def _close(self, event: Any) -> None:
        made = self.stack.pop()
        node: Items | Table
        if made.is_table:
            node = Table(made.entries, made.mark)
            for merged in made.merged:
                _merge(node, merged)
            children: list[Node] = [entry.node for entry in node.entries.values()]
        else:
            node = Items(made.items, made.mark)
            children = made.items
        node.size = 1 + sum(child.size for child in children)
        node.depth = 1 + max((child.depth for child in children), default=0)
        node.has_expressions = any(child.has_expressions for child in children)
        if made.is_flow:
            node.mark.end_line, node.mark.end_column = (
                event.end_mark.line + 1,
                event.end_mark.column + 1,
            )
        else:  # without the blank lines and comments behind it
            end = max(
                ((child.mark.end_line, child.mark.end_column) for child in children
                 if child.mark.line >= made.mark.line),
                default=(made.mark.line, made.mark.column + 1),
            )  # fmt: skip
            node.mark.end_line, node.mark.end_column = end
        if made.anchor is not None:
            self.opened.discard(made.anchor)
        self._done(node, made.anchor)

    def _alias(self, event: Any) -> None:
        name = event.anchor
        if name in self.opened:
            raise self._mark(event).error(f"alias `*{name}` is inside of what it stands for")
        if name not in self.anchors:
            from torana.frontends.kit.suggest import suggest

            near = suggest(name, self.anchors)
            raise self._mark(event).error(
                f"no anchor before this alias: `*{name}`",
                hint=f"did you mean `*{near}`?" if near else None,
            )
        self._done(self.anchors[name], None, at=self._mark(event))

    def _done(self, node: Node, anchor: str | None, at: Mark | None = None) -> None:
        place = at or node.mark
        if anchor is not None:
            self.anchors[anchor] = node
        if node.size > MAX_NODES:
            raise place.error(
                f"more than {MAX_NODES} values", hint="aliases count as what they stand for"
            )
        if len(self.stack) + node.depth > MAX_DEPTH + 1:
            raise place.error(f"more than {MAX_DEPTH} levels deep")
        if not self.stack:
            self.root = node
            return
        parent = self.stack[-1]
        if not parent.is_table:
            parent.items.append(node)
        elif parent.key is None:
            if not isinstance(node, Scalar):
                raise place.error("a key is text")
            parent.key = node if at is None else Scalar(node.text, at, node.is_plain)
            if not _is_merge(parent.key) and (earlier := parent.entries.get(node.text)):
                raise place.error(
                    f"key twice in one mapping: `{_short(node.text)}`",
                    hint=f"first in line {earlier.key.mark.line}",
                )
        else:
            key, parent.key = parent.key, None
            if _is_merge(key):
                parent.merged += _mergeable(node, place)
            else:
                parent.entries[key.text] = Entry(key, node)


def _is_merge(key: Scalar) -> bool:
    return key.text == _MERGE and key.is_plain


def _mergeable(node: Node, place: Mark) -> list[Node]:
    nodes = node.items if isinstance(node, Items) else [node]
    for each in nodes:
        if not isinstance(each, Table):
            raise place.error("`<<` merges mappings", hint="for example `<<: *anchor`")
    return list(nodes)


def _merge(into: Table, merged: Node) -> None:
    """Add keys that are not there yet."""
    assert isinstance(merged, Table)
    for name, entry in merged.entries.items():
        into.entries.setdefault(name, entry)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _syntax_error(file: SourceFile, text: str, err: yaml.YAMLError) -> BuildFileError:
    """Put the parser's complaint into a build file's terms."""
    mark = getattr(err, "problem_mark", None) or getattr(err, "context_mark", None)
    if mark is None:
        position = min(getattr(err, "position", 0) or 0, len(text))
        line = text.count("\n", 0, position) + 1
        return Mark(file, line, 1, line, 2).error("a character that YAML does not allow")
    line, column = mark.line + 1, mark.column + 1
    lines = text.split("\n")
    written = lines[line - 1] if line <= len(lines) else ""
    problem = str(getattr(err, "problem", "") or err).split("\n", 1)[0]
    message, hint = _explain(problem, written, column)
    return Mark(file, line, column, line, column + 1).error(f"not YAML: {message}", hint=hint)


def _explain(problem: str, written: str, column: int) -> tuple[str, str | None]:
    indent = written[: len(written) - len(written.lstrip())]
    if "\t" in indent or "'\\t'" in problem or (problem.startswith("found a tab")):
        return "a tab where blanks belong", "indent with blanks"
    if "mapping values are not allowed" in problem:
        return problem, "text with `: ` in it must be quoted, or stand in a block after `|`"
    if "${{" in written:
        return problem, "quote text with `${{ }}` where it stands inside of `{ }` or `[ ]`"
    if "could not find expected ':'" in problem:
        return problem, "a key needs a `:` behind it; text of several lines stands after `|`"
    return problem, None
