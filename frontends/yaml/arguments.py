"""`Arguments`: declared arguments and inputs, with the values that they are given.

Values are read as the declared type and checked when they are first asked for; a default may name
other arguments, but not in a circle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from torana.core.records import dataclass
from torana.frontends.kit.yamltree import Entry, Mark, Node, Scalar, Table
from torana.frontends.yaml import fields
from torana.frontends.yaml.expressions.pattern import Pattern
from torana.frontends.yaml.expressions.values import Value, equal, typed
from torana.frontends.yaml.scope import Group, Scope


@dataclass(frozen=True, slots=True)
class Declaration:
    """An argument or an input as it is declared."""

    name: str
    mark: Mark
    default: Scalar | None = None
    type: str = ""  # empty: text; of inputs also a list
    enum: tuple[Scalar, ...] = ()
    pattern: str = ""
    is_required: bool = False
    description: str = ""

    @property
    def placeholder(self) -> str:
        """Text that could be the value."""
        if self.enum:
            return self.enum[0].text
        return {"int": "0", "bool": "false", "version": "0"}.get(self.type, "")

    def read(self, value: Value, place: Mark) -> Value:
        """Check a value that was given; text is read as the declared type.

        Raises:
            BuildFileError: it does not fit; located at `place`.
        """
        what = f"`{self.name}`"
        if isinstance(value, str):
            given = value
            try:
                value = typed(given, self.type)
            except ValueError as err:
                raise place.error(f"{what} {err}: `{given[:60]}`") from err
        elif self.type and value is not None:
            value = self._converted(value, place)
        written = value if isinstance(value, str) else getattr(value, "text", None)
        if self.enum and not any(self._equals(value, each) for each in self.enum):
            known = ", ".join(each.text for each in self.enum)
            raise place.error(f"{what} cannot be `{_shown(value)}`", hint=f"known are {known}")
        if (
            self.pattern
            and written is not None
            and not Pattern.parse(self.pattern).matches(written)
        ):
            raise place.error(f"{what} does not match {self.pattern}: `{written[:60]}`")
        return value

    def _converted(self, value: Value, place: Mark) -> Value:
        kinds = {"int": int, "bool": bool, "version": object, "string": str}
        if type(value) is kinds[self.type] or (self.type == "version" and hasattr(value, "key")):
            return value
        raise place.error(f"`{self.name}` must be of type {self.type}: `{_shown(value)}`")

    def _equals(self, value: Value, allowed: Scalar) -> bool:
        try:
            return equal(value, typed(allowed.text, self.type))
        except ValueError:
            return False


def _shown(value: Value) -> str:
    from torana.frontends.yaml.expressions.values import text

    try:
        return text(value)[:60]
    except ValueError:
        return "a list"


def read_declarations(node: Node | None) -> dict[str, Declaration]:
    """Read `args` or `inputs`."""
    if not isinstance(node, Table):
        return {}
    return {name: _declaration(name, entry) for name, entry in node.entries.items()}


def _declaration(name: str, entry: Entry) -> Declaration:
    node, mark = entry.node, entry.key.mark
    if isinstance(node, Scalar):
        return Declaration(name, mark, default=None if node.value is None else node)
    assert isinstance(node, Table)
    pattern = node.get("pattern")
    if isinstance(pattern, Scalar):
        fields.check_pattern(pattern.text, pattern.mark)
    enum = node.get("enum")
    default = node.get("default")
    type_ = fields.text(node.get("type"))
    declaration = Declaration(
        name,
        mark,
        default=default if isinstance(default, Scalar) else None,
        type=type_,
        enum=tuple(item for item in enum.items if isinstance(item, Scalar)) if enum else (),  # type: ignore[union-attr]  # a list by the schema
        pattern=fields.text(pattern),
        is_required=fields.flag(node.get("required")),
        description=fields.text(node.get("description")),
    )
    for each in declaration.enum:
        try:
            typed(each.text, type_)
        except ValueError as err:
            raise each.mark.error(f"`{name}` {err}: `{each.text}`") from err
    return declaration


@dataclass(slots=True)
class Arguments:
    """The arguments of one file; values are worked out when they are asked for, once."""

    declared: Mapping[str, Declaration]
    given: Mapping[str, str]
    scope: Scope = field(default_factory=Scope)  # what defaults may name besides `args.`
    has_placeholders: bool = False  # stand for what must be given, in questions about a file
    _values: dict[str, Value] = field(default_factory=dict)
    _open: list[str] = field(default_factory=list)

    def group(self) -> Group:
        return Group(self.declared, self.value)

    def value(self, name: str) -> Value:
        """Give the value of a declared argument; null if it has none.

        Raises:
            BuildFileError: it must be given and is not, or what is given does not fit.
        """
        if name not in self._values:
            self._values[name] = self._find(self.declared[name])
        return self._values[name]

    def _find(self, declaration: Declaration) -> Value:
        name = declaration.name
        if name in self.given:
            return declaration.read(self.given[name], declaration.mark)
        if declaration.default is None:
            if declaration.is_required and self.has_placeholders:
                return typed(declaration.placeholder, declaration.type)
            if declaration.is_required:
                raise declaration.mark.error(
                    f"argument `{name}` must be given", hint=f"--build-arg {name}=VALUE"
                )
            return None
        if name in self._open:
            circle = " -> ".join((*self._open[self._open.index(name) :], name))
            raise declaration.mark.error(f"arguments name each other in a circle: {circle}")
        self._open.append(name)
        try:
            scope = Scope({**self.scope.groups, "args": self.group()})
            default = declaration.default
            written = scope.expand_text(default.text, default.mark)
            return declaration.read(written, default.mark)
        finally:
            self._open.pop()

    def check(self) -> None:
        """Work out all of them.

        Raises:
            BuildFileError: see `value`.
        """
        for name in self.declared:
            self.value(name)


def read_inputs(
    declared: Mapping[str, Declaration], given: Mapping[str, tuple[Value, Mark]], call: Mark
) -> dict[str, Value]:
    """Match what a call gives with the inputs of a template.

    Raises:
        BuildFileError: one is unknown, missing or does not fit.
    """
    from torana.frontends.kit.suggest import suggest

    for name, (_, place) in given.items():
        if name not in declared:
            near = suggest(name, declared)
            known = f"known are {', '.join(declared)}" if declared else "it has no inputs"
            raise place.error(
                f"no such input: `{name}`", hint=f"did you mean `{near}`?" if near else known
            )
    values: dict[str, Value] = {}
    for name, declaration in declared.items():
        if name in given and given[name][0] is not None:
            values[name] = declaration.read(*given[name])
        elif declaration.default is not None:
            default = declaration.default
            scope = Scope({"inputs": Group.of(dict(values))})
            values[name] = declaration.read(
                scope.expand_text(default.text, default.mark), default.mark
            )
        elif declaration.is_required:
            raise call.error(f"input `{name}` must be given", hint=declaration.description or None)
        else:
            values[name] = None
    return values
