"""`Catalog`: the stages of all files by name, matrices multiplied, conditions decided."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Final

from torana.core.errors import UserError
from torana.core.records import dataclass
from torana.frontends.kit.suggest import suggest
from torana.frontends.kit.yamltree import Entry, Items, Mark, Scalar, Table
from torana.frontends.yaml import fields
from torana.frontends.yaml.arguments import Arguments
from torana.frontends.yaml.document import Document
from torana.frontends.yaml.expressions.values import Value, text
from torana.frontends.yaml.scope import Group, Scope

MAX_VARIANTS: Final = 1000
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]*")
_RESERVED: Final = frozenset(("scratch", "context"))
_INCLUDE, _EXCLUDE = "include", "exclude"


class TargetError(UserError):
    """The target stage does not exist, or none was named where one must be."""

    code = "TARGET_UNKNOWN"


@dataclass(frozen=True, slots=True, eq=False)
class Declared:
    """A stage, or one variant of it, not read yet; `is_left_out`: its `if` is false."""

    name: str
    document: Document
    mark: Mark
    node: Table
    scope: Scope
    group: str = ""
    is_left_out: bool = False


@dataclass(frozen=True, slots=True)
class StageGroup:
    """All variants of a stage with a matrix."""

    name: str
    mark: Mark
    members: tuple[str, ...]


@dataclass(slots=True)
class Catalog:
    """Stages and groups by full name, in the order of the files."""

    stages: dict[str, Declared] = field(default_factory=dict)
    groups: dict[str, StageGroup] = field(default_factory=dict)
    scopes: dict[Document, Scope] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        document: Document,
        build_args: Mapping[str, str],
        surroundings: Mapping[str, Group],
        *,
        has_placeholders: bool = False,
    ) -> Catalog:
        """Read the stages of a file and of all that it includes.

        Args:
            document: the main file.
            build_args: arguments as they were given.
            surroundings: names of expressions that all files have: `build` and `target`.
            has_placeholders: values are made up for arguments that must be given and are not.

        Raises:
            BuildFileError: a matrix, a condition or a name is wrong; located.
        """
        catalog = cls()
        arguments = Arguments(document.arguments, build_args, Scope(surroundings), has_placeholders)
        arguments.check()
        catalog._add_document(document, arguments, surroundings, arguments)
        return catalog

    def _add_document(
        self,
        document: Document,
        arguments: Arguments,
        surroundings: Mapping[str, Group],
        main: Arguments,
    ) -> None:
        scope = Scope({"args": arguments.group(), **surroundings})
        for each in (document, *document.packs.values()):
            self.scopes[each] = (
                scope if each is document else Scope({"args": Group.of({}), **surroundings})
            )
        for name, entry in document.stages.items():
            self._add(document, name, entry, scope)
        for included in document.includes.values():
            shared = {
                name: text(main.value(name))
                for name in included.arguments
                if name in main.declared and main.value(name) is not None
            }
            own = Arguments(included.arguments, shared, Scope(surroundings))
            self._add_document(included, own, surroundings, main)

    def _add(self, document: Document, name: str, entry: Entry, scope: Scope) -> None:
        node, mark = entry.node, entry.key.mark
        assert isinstance(node, Table)
        full = document.prefix + name
        matrix = fields.table(node.get("matrix"))
        if matrix is None:
            if "variant" in node:
                raise node.key("variant").error("`variant` needs `matrix`")
            left_out = not scope.condition(node.get("if"))
            self._put(Declared(full, document, mark, node, scope, is_left_out=left_out))
            return
        members = []
        for values in combinations(matrix):
            inner = scope.adding("matrix", values)
            variant = document.prefix + _variant(name, node, values, inner)
            left_out = not inner.condition(node.get("if"))
            self._put(Declared(variant, document, mark, node, inner, full, left_out))
            if not left_out:
                members.append(variant)
        if full in self.stages:
            raise mark.error(f"a variant has the name of its stage: `{full}`")
        self.groups[full] = StageGroup(full, mark, tuple(members))

    def _put(self, declared: Declared) -> None:
        name = declared.name
        if name in self.stages or name in self.groups:
            hint = "give variants names of their own with `variant`" if declared.group else None
            raise declared.mark.error(f"two stages are called `{name}`", hint=hint)
        self.stages[name] = declared

    def find(self, name: str, place: Mark) -> Declared:
        """Give a stage that is read from.

        Raises:
            BuildFileError: its condition is false; located at `place`.
        """
        declared = self.stages[name]
        if declared.is_left_out:
            raise place.error(f"stage `{name}` is left out by its `if`")
        return declared

    def target(self, asked: str, document: Document) -> str:
        """Give the name of the stage or group to build.

        Raises:
            TargetError: there is none of that name, or none was named and several could be meant.
        """
        names = [*self.stages, *self.groups]
        default = document.root.get("default")
        if not asked:
            asked = fields.text(default) or _only(document)
            if not asked:
                listed = ", ".join(document.stages)
                raise TargetError(
                    f"which stage? there are {listed}" if listed else "there is no stage to build",
                    hint="name one with `--target`, or with `default:` in the file"
                    if listed
                    else None,
                )
            if asked not in names:
                assert default is not None
                near = suggest(asked, names)
                raise default.mark.error(
                    f"no such stage: `{asked}`", hint=f"did you mean `{near}`?" if near else None
                )
        if asked not in names:
            near = suggest(asked, names)
            raise TargetError(
                f"no such stage: `{asked}`",
                hint=f"did you mean `{near}`?" if near else f"there are {', '.join(names[:20])}",
            )
        if asked in self.stages and self.stages[asked].is_left_out:
            raise TargetError(f"stage `{asked}` is left out by its `if`")
        return asked


def _only(document: Document) -> str:
    if "default" in document.stages:
        return "default"
    return next(iter(document.stages)) if len(document.stages) == 1 else ""


def combinations(matrix: Table) -> list[dict[str, Value]]:
    """Multiply the lists, leave out what `exclude` matches, add what `include` lists.

    Raises:
        BuildFileError: too many, none, or a name in `exclude` that is none of the matrix; located.
    """
    axes = {
        name: [_value(item) for item in entry.node]
        for name, entry in matrix.entries.items()
        if name not in (_INCLUDE, _EXCLUDE) and isinstance(entry.node, Items)
    }
    total = 1
    for values in axes.values():
        total *= len(values)
    if total > MAX_VARIANTS:
        raise matrix.mark.error(f"the matrix has more than {MAX_VARIANTS} variants: {total}")
    refused = [_row(item) for item in _rows(matrix, _EXCLUDE)]
    for item in _rows(matrix, _EXCLUDE):
        for name in item.entries:
            if name not in axes:
                near = suggest(name, axes)
                raise item.key(name).error(
                    f"the matrix has no `{name}`", hint=f"did you mean `{near}`?" if near else None
                )
    rows = (
        [dict(zip(axes, each, strict=True)) for each in itertools.product(*axes.values())]
        if axes
        else []
    )
    kept = [row for row in rows if not any(_fits(row, each) for each in refused)]
    kept += [_row(item) for item in _rows(matrix, _INCLUDE)]
    if not kept:
        raise matrix.mark.error("the matrix is empty")
    if len(kept) > MAX_VARIANTS:
        raise matrix.mark.error(f"the matrix has more than {MAX_VARIANTS} variants: {len(kept)}")
    names = dict.fromkeys(name for row in kept for name in row)
    return [{name: row.get(name) for name in names} for row in kept]


def _rows(matrix: Table, name: str) -> Iterable[Table]:
    node = matrix.get(name)
    return [item for item in node if isinstance(item, Table)] if isinstance(node, Items) else ()


def _row(node: Table) -> dict[str, Value]:
    return {name: _value(entry.node) for name, entry in node.entries.items()}


def _value(node: object) -> Value:
    assert isinstance(node, Scalar)
    return node.value


def _fits(row: Mapping[str, Value], refused: Mapping[str, Value]) -> bool:
    return all(text(row[name]) == text(value) for name, value in refused.items())


def _variant(name: str, node: Table, values: Mapping[str, Value], scope: Scope) -> str:
    given = node.get("variant")
    if isinstance(given, Scalar):
        found = scope.expand_text(given.text, given.mark)
        if not _NAME.fullmatch(found) or found in _RESERVED:
            raise given.mark.error(f"not the name of a stage: `{found[:60]}`")
        return found
    parts = [re.sub(r"[^a-z0-9._-]+", "-", text(value).lower()) for value in values.values()]
    return "-".join([name, *(part for part in parts if part)])
