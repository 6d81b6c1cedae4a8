"""`parse`: text of an expression to something that can be evaluated.

lark is imported for the first expression only; a file without any never pays for it.

Spec: `grammar.lark`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, Final

from torana.core.records import dataclass
from torana.frontends.kit.suggest import suggest
from torana.frontends.yaml.expressions.functions import FUNCTIONS, MAX_TEXT
from torana.frontends.yaml.expressions.values import (
    Value,
    comparable,
    equal,
    kind,
    text,
)

MAX_LENGTH: Final = 2000  # characters
MAX_NESTING: Final = 40
Lookup = Callable[[tuple[str, ...]], Value]


class ExpressionError(ValueError):
    """An expression is malformed, or cannot be evaluated; `column` counts from 1, 0 is unknown."""

    def __init__(self, message: str, *, column: int = 0, hint: str | None = None) -> None:
        super().__init__(message)
        self.column = column
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression. `reads` are the paths that occur in it."""

    tree: Any
    reads: tuple[tuple[str, ...], ...]

    def evaluate(self, lookup: Lookup) -> Value:
        """Give its value.

        Raises:
            ExpressionError: a name is unknown, or values have types that do not go together.
        """
        try:
            return _evaluate(self.tree, lookup)
        except ExpressionError:
            raise
        except ValueError as err:
            raise ExpressionError(str(err)) from err

    def condition(self, lookup: Lookup) -> bool:
        """Give its value, which must be true or false.

        Raises:
            ExpressionError: it is something else.
        """
        value = self.evaluate(lookup)
        if not isinstance(value, bool):
            raise ExpressionError(
                f"a condition is true or false, not {kind(value)}",
                hint="compare it, as in `args.NAME != ''`",
            )
        return value


@lru_cache(maxsize=4096)
def parse(source: str) -> Expression:
    """Read an expression.

    Raises:
        ExpressionError: it is malformed, too long or nested too deep.
    """
    if len(source) > MAX_LENGTH:
        raise ExpressionError(f"an expression has more than {MAX_LENGTH} characters")
    if not source.strip():
        raise ExpressionError("an empty expression")
    from lark.exceptions import UnexpectedInput, UnexpectedToken

    try:
        tree = _lark().parse(source)
    except UnexpectedInput as err:
        at_end = isinstance(err, UnexpectedToken) and err.token.type == "$END"
        column = 0 if at_end else max(err.column, 0)
        message, hint = _unexpected(source, column)
        raise ExpressionError(message, column=column, hint=hint) from err
    except Exception as err:
        cause = getattr(err, "orig_exc", err)
        if isinstance(cause, ExpressionError):
            raise cause from None  # lark wrapped it, and is its context already
        raise
    reads: dict[tuple[str, ...], None] = {}
    _collect(tree, reads)
    return Expression(tree, tuple(reads))


def _unexpected(source: str, column: int) -> tuple[str, str | None]:
    rest = source[column - 1 :].strip() if column else ""
    if not rest:
        return "the expression ends too early", None
    hints = {
        "?": "a choice is written `X if CONDITION else Y`",
        "&": "it is `and`",
        "|": "it is `or`",
        "!": "it is `not`",
        "=": "it is `==`",
    }
    return f"not an expression from here on: `{rest[:40]}`", hints.get(rest[0])


@cache
def _lark() -> Any:
    from lark import Lark

    grammar = files(__package__).joinpath("grammar.lark").read_text("utf-8")
    return Lark(grammar, parser="lalr", transformer=_transformer(), propagate_positions=False)


def _transformer() -> Any:
    """Make what turns rules into tuples (operation, parts, depth) while they are read."""
    from lark import Token, Transformer, Tree

    class Tuples(Transformer[Token, Any]):
        def __default__(self, data: Any, children: Any, meta: Any) -> Any:
            if data.startswith("_"):  # lark's own, for repetitions
                return Tree(data, children, meta)
            return node(str(data), *children)

        def string(self, children: Any) -> Any:
            return node("value", str(children[0])[1:-1])

        def integer(self, children: Any) -> Any:
            return node("value", int(children[0]))

        def true(self, _: Any) -> Any:
            return node("value", True)

        def false(self, _: Any) -> Any:
            return node("value", False)

        def null(self, _: Any) -> Any:
            return node("value", None)

        def path(self, children: Any) -> Any:
            return node("path", tuple(str(name) for name in children))

        def items(self, children: Any) -> Any:
            return node("items", *(child for child in children if child is not None))

        def call(self, children: Any) -> Any:
            name = str(children[0])
            given = [child for child in children[1:] if child is not None]
            if name not in FUNCTIONS:
                near = suggest(name, FUNCTIONS)
                raise ExpressionError(
                    f"no such function: `{name}`",
                    hint=f"did you mean `{near}`?" if near else f"known are {', '.join(FUNCTIONS)}",
                )
            wanted = FUNCTIONS[name][0]
            if len(given) != wanted:
                raise ExpressionError(f"`{name}` takes {wanted} arguments, not {len(given)}")
            return node("call", name, *given)

        def comparison(self, children: Any) -> Any:
            return node("comparison", str(children[1]), children[0], children[2])

    def node(operation: str, *parts: Any) -> Any:
        depth = 1 + max((part[2] for part in parts if _is_node(part)), default=0)
        if depth > MAX_NESTING:
            raise ExpressionError(f"an expression nested more than {MAX_NESTING} times")
        return (operation, parts, depth)

    return Tuples()


def _is_node(part: Any) -> bool:
    return isinstance(part, tuple) and len(part) == 3 and isinstance(part[2], int)


def _collect(tree: Any, reads: dict[tuple[str, ...], None]) -> None:
    operation, parts, _ = tree
    if operation == "path":
        reads[parts[0]] = None
    for part in parts:
        if _is_node(part):
            _collect(part, reads)


def _evaluate(tree: Any, lookup: Lookup) -> Value:
    operation, parts, _ = tree
    match operation:
        case "value":
            constant: Value = parts[0]
            return constant
        case "path":
            return lookup(parts[0])
        case "choice":
            return _evaluate(parts[0] if _truth(parts[1], lookup) else parts[2], lookup)
        case "either":
            return any(_truth(part, lookup) for part in parts)
        case "both":
            return all(_truth(part, lookup) for part in parts)
        case "negation":
            return not _truth(parts[0], lookup)
        case "call":
            values = [_evaluate(part, lookup) for part in parts[1:]]
            result: Value = FUNCTIONS[parts[0]][1](*values)
            return result
        case "items":
            return tuple(_evaluate(part, lookup) for part in parts)
        case "comparison":
            return _compare(parts[0], _evaluate(parts[1], lookup), _evaluate(parts[2], lookup))
        case "membership":
            return _contains(_evaluate(parts[1], lookup), _evaluate(parts[0], lookup))
        case "absence":
            return not _contains(_evaluate(parts[1], lookup), _evaluate(parts[0], lookup))
    assert operation == "concatenation", operation
    total = _evaluate(parts[0], lookup)
    for part in parts[1:]:
        total = _add(total, _evaluate(part, lookup))
    return total


def _truth(tree: Any, lookup: Lookup) -> bool:
    value = _evaluate(tree, lookup)
    if not isinstance(value, bool):
        raise ExpressionError(
            f"`and`, `or`, `not` and `if` need true or false, not {kind(value)}",
            hint="compare it, as in `args.NAME != ''`",
        )
    return value


_ORDERS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def _compare(operator: str, one: Value, other: Value) -> bool:
    if operator in ("==", "!="):
        return equal(one, other) == (operator == "==")
    if one is None or other is None or isinstance(one, (bool, tuple)):
        raise ExpressionError(f"{kind(one)} has no order")
    return bool(_ORDERS[operator](*comparable(one, other)))


def _contains(whole: Value, part: Value) -> bool:
    if isinstance(whole, tuple):
        return any(type(each) is type(part) and each == part for each in whole)
    if isinstance(whole, str) and isinstance(part, str):
        return part in whole
    raise ExpressionError(f"`in` needs a list, or text in text, not {kind(part)} in {kind(whole)}")


def _add(one: Value, other: Value) -> Value:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return one + other
    if type(one) is int and type(other) is int:
        return one + other
    if isinstance(one, str) or isinstance(other, str):
        joined = text(one) + text(other) if _is_text(one) and _is_text(other) else None
        if joined is not None and len(joined) <= MAX_TEXT:
            return joined
        if joined is not None:
            raise ExpressionError(f"the result has more than {MAX_TEXT >> 10} KiB")
    raise ExpressionError(f"`+` cannot join {kind(one)} and {kind(other)}")


def _is_text(value: Value) -> bool:
    from torana.frontends.yaml.expressions.values import Version

    return isinstance(value, (str, Version))
