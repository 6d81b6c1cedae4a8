"""`Scope`: what expressions can name, and text with `${{ }}` in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field, replace
from typing import Final

from torana.core.errors import BuildFileError
from torana.core.records import dataclass
from torana.frontends.kit.suggest import suggest
from torana.frontends.kit.yamltree import EXPRESSION, Entry, Items, Mark, Node, Scalar, Table
from torana.frontends.yaml.expressions.functions import MAX_TEXT
from torana.frontends.yaml.expressions.parser import Expression, ExpressionError, parse
from torana.frontends.yaml.expressions.values import Value, text

_END: Final = "}}"
Names = Mapping[str, Value] | Callable[[str], Value]


@dataclass(frozen=True, slots=True)
class Group:
    """Names behind a dot, such as those of `args.`; `find` gives the value of one of `known`."""

    known: Iterable[str]
    find: Callable[[str], Value]

    @classmethod
    def of(cls, values: Mapping[str, Value]) -> Group:
        return cls(values, values.__getitem__)


@dataclass(frozen=True, slots=True)
class Scope:
    """Values by name. Names with a dot in them (`vcs.revision`) belong to the group before."""

    groups: Mapping[str, Group] = field(default_factory=dict)

    def adding(self, name: str, values: Mapping[str, Value]) -> Scope:
        """Give a scope with one group more, or with another one of that name."""
        return replace(self, groups={**self.groups, name: Group.of(values)})

    def lookup(self, path: tuple[str, ...]) -> Value:
        """Give the value of a name.

        Raises:
            ExpressionError: there is no such name here.
        """
        group = self.groups.get(path[0])
        if group is None:
            near = suggest(path[0], self.groups)
            here = ", ".join(f"`{name}.`" for name in self.groups)
            raise ExpressionError(
                f"unknown name: `{'.'.join(path)}`",
                hint=f"did you mean `{near}.`?" if near else f"names here begin with {here}",
            )
        name = ".".join(path[1:])
        if not name:
            raise ExpressionError(f"`{path[0]}` is not a value", hint=f"write `{path[0]}.NAME`")
        known = list(group.known)
        if name not in known:
            near = suggest(name, known)
            listed = f"known are {', '.join(known)}" if known else f"there is no `{path[0]}.` here"
            raise ExpressionError(
                f"unknown name: `{'.'.join(path)}`",
                hint=f"did you mean `{path[0]}.{near}`?" if near else listed,
            )
        return group.find(name)

    def expand(self, node: Node) -> Node:
        """Replace the expressions in a node; keys stay as they are.

        Raises:
            BuildFileError: an expression is wrong; located.
        """
        if not node.has_expressions:
            return node
        match node:
            case Scalar():
                return Scalar(self.expand_text(node.text, node.mark), node.mark)
            case Items():
                return Items([self.expand(item) for item in node.items], node.mark)
            case Table():
                entries = {
                    name: Entry(entry.key, self.expand(entry.node))
                    for name, entry in node.entries.items()
                }
                return Table(entries, node.mark)

    def expand_text(self, written: str, mark: Mark) -> str:
        """Replace the expressions in text.

        Raises:
            BuildFileError: an expression is wrong; located.
        """
        parts, size = [], 0
        for part in pieces(written, mark):
            if isinstance(part, Expression):
                with _failing_at(mark):
                    part = text(part.evaluate(self.lookup))
            parts.append(part)
            size += len(part)
            if size > MAX_TEXT + len(written):
                raise mark.error(f"expressions make more than {MAX_TEXT >> 10} KiB of this")
        return "".join(parts)

    def value(self, node: Scalar) -> Value:
        """Give the value of text that may be one expression; else the text with all replaced.

        Raises:
            BuildFileError: an expression is wrong; located.
        """
        parts = list(pieces(node.text, node.mark))
        if len(parts) == 1 and isinstance(parts[0], Expression):
            with _failing_at(node.mark):
                return parts[0].evaluate(self.lookup)
        return self.expand_text(node.text, node.mark)

    def condition(self, node: Node | None) -> bool:
        """Evaluate an `if`; true where there is none.

        Raises:
            BuildFileError: it is wrong, or neither true nor false; located.
        """
        if node is None:
            return True
        assert isinstance(node, Scalar)
        source = node.text.strip()
        if source.startswith(EXPRESSION) and source.endswith(_END):
            source = source[len(EXPRESSION) : -len(_END)]
        with _failing_at(node.mark):
            return parse(source).condition(self.lookup)


class _failing_at:
    """Turns expression errors into located ones. A class: generators cost more per use."""

    def __init__(self, mark: Mark) -> None:
        self.mark = mark

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, err: BaseException | None, trace: object) -> None:
        if isinstance(err, ExpressionError):
            raise self.mark.error(str(err), hint=err.hint) from err
        if isinstance(err, ValueError) and not isinstance(err, BuildFileError):
            raise self.mark.error(str(err)) from err


def pieces(written: str, mark: Mark) -> Iterator[str | Expression]:
    """Split text into literal parts and expressions.

    Raises:
        BuildFileError: an expression is malformed; located.
    """
    at = 0
    while (start := written.find(EXPRESSION, at)) >= 0:
        if start > at:
            yield written[at:start]
        begin = start + len(EXPRESSION)
        end = _end(written, begin)
        if end < 0:
            raise mark.error(
                "`${{` without `}}`",
                hint="in plain YAML text ` #` begins a comment: quote text that has one in it",
            )
        with _failing_at(mark):
            yield parse(written[begin:end].strip())
        at = end + len(_END)
    if at < len(written):
        yield written[at:]


def _end(written: str, at: int) -> int:
    """Find `}}` outside of quotes; -1 without one."""
    quote = ""
    while at < len(written):
        char = written[at]
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif written.startswith(_END, at):
            return at
        at += 1
    return -1
