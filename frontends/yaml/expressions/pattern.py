"""`Pattern`: regular expressions that are matched in linear time.

Python's own engine backtracks, and some patterns keep it busy for ever. These have no
backreferences and no look-around, and are run as a set of states: the time is at most the length of
the text times that of the pattern.

Syntax: literals, `.`, `[...]` with ranges and `^`, `\\d \\w \\s` and their capitals, `( )`, `|`,
`* + ? {m} {m,} {m,n}`, `^` and `$`. The whole text need not match unless `^` and `$` say so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from functools import lru_cache
from typing import Final

from torana.core.records import dataclass

MAX_PATTERN: Final = 512  # characters
MAX_STATES: Final = 2000
MAX_DEPTH: Final = 30
_CLASSES: Final[dict[str, Callable[[str], bool]]] = {
    "d": lambda c: "0" <= c <= "9",
    "w": lambda c: c == "_" or (c.isascii() and c.isalnum()),
    "s": lambda c: c in " \t\n\r\f\v",
}
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r"}
Test = Callable[[str], bool]


class InvalidPatternError(ValueError):
    """Text is no pattern, or one that is too big."""


@dataclass(slots=True)
class _State:
    """A state: reads a character that passes `test`, or goes on without reading."""

    test: Test | None = None
    anchor: str = ""  # `^` or `$`: passed only there
    next: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern; state 0 is the end."""

    states: list[_State]
    start: int

    @staticmethod
    @lru_cache(maxsize=256)
    def parse(text: str) -> Pattern:
        """Compile a pattern.

        Raises:
            InvalidPatternError: it is malformed or too big.
        """
        if len(text) > MAX_PATTERN:
            raise InvalidPatternError(f"the pattern has more than {MAX_PATTERN} characters")
        compiler = _Compiler(text)
        tree = compiler.choice(0)
        if compiler.at < len(text):
            raise InvalidPatternError("unbalanced `)` in the pattern")
        states = [_State()]
        return Pattern(states, _build(tree, 0, states))

    def matches(self, text: str) -> bool:
        """Say whether any part of `text` matches."""
        current: set[int] = set()
        for position in range(len(text) + 1):
            self._enter(current, self.start, position, len(text))
            if 0 in current:
                return True
            if position == len(text):
                return False
            char = text[position]
            following: set[int] = set()
            for number in current:
                state = self.states[number]
                if state.test is not None and state.test(char):
                    for target in state.next:
                        self._enter(following, target, position + 1, len(text))
            current = following
        return False

    def _enter(self, found: set[int], number: int, position: int, length: int) -> None:
        waiting = [number]
        while waiting:
            each = waiting.pop()
            if each in found:
                continue
            state = self.states[each]
            if state.anchor and position != (0 if state.anchor == "^" else length):
                continue
            found.add(each)
            if state.test is None:
                waiting += state.next


Tree = tuple[str, "tuple[object, ...]"]


@dataclass(slots=True)
class _Compiler:
    """Reads a pattern into a tree: (kind, parts)."""

    text: str
    at: int = 0

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _take(self) -> str:
        char = self._peek()
        self.at += 1
        return char

    def choice(self, depth: int) -> Tree:
        if depth > MAX_DEPTH:
            raise InvalidPatternError("the pattern is nested too deep")
        branches = [self._row(depth)]
        while self._peek() == "|":
            self._take()
            branches.append(self._row(depth))
        return ("choice", tuple(branches))

    def _row(self, depth: int) -> Tree:
        parts: list[Tree] = []
        while (char := self._peek()) and char not in "|)":
            parts.append(self._repeated(self._atom(depth)))
        return ("row", tuple(parts))

    def _atom(self, depth: int) -> Tree:
        char = self._take()
        match char:
            case "(":
                if self._peek() == "?":
                    if self.text[self.at : self.at + 2] != "?:":
                        raise InvalidPatternError("`(?` is not known in patterns here")
                    self.at += 2
                inner = self.choice(depth + 1)
                if self._take() != ")":
                    raise InvalidPatternError("`(` without `)` in the pattern")
                return inner
            case "[":
                return ("test", (self._set(),))
            case ".":
                return ("test", (lambda c: c != "\n",))
            case "^" | "$":
                return ("anchor", (char,))
            case "*" | "+" | "?":
                raise InvalidPatternError(f"nothing to repeat before `{char}` in the pattern")
            case "\\":
                return ("test", (self._escape(),))
        return ("test", (_is(char),))

    def _escape(self) -> Test:
        char = self._take()
        if char.lower() in _CLASSES and char:
            test = _CLASSES[char.lower()]
            return (lambda c: not test(c)) if char.isupper() else test
        if not char or (char.isalnum() and char not in _ESCAPES):
            raise InvalidPatternError(f"`\\{char}` is not known in patterns here")
        return _is(_ESCAPES.get(char, char))

    def _set(self) -> Test:
        negated = self._peek() == "^"
        if negated:
            self._take()
        tests: list[Test] = []
        first = True
        while (char := self._take()) != "]" or first:
            if not char:
                raise InvalidPatternError("`[` without `]` in the pattern")
            first = False
            if char == "\\":
                tests.append(self._escape())
            elif self._peek() == "-" and self.text[self.at + 1 : self.at + 2] not in ("]", ""):
                self._take()
                last = self._take()
                if last < char:
                    raise InvalidPatternError(f"bad range in the pattern: `{char}-{last}`")
                tests.append(_between(char, last))
            else:
                tests.append(_is(char))
        return lambda c: any(test(c) for test in tests) != negated

    def _repeated(self, tree: Tree) -> Tree:
        char = self._peek()
        bounds: tuple[int, int | None]
        if char == "{":
            end = self.text.find("}", self.at)
            low, comma, high = self.text[self.at + 1 : max(end, 0)].partition(",")
            if not low.isdigit() or (high and not high.isdigit()) or len(low + high) > 6:
                raise InvalidPatternError("`{` in the pattern is not `{m}`, `{m,}` or `{m,n}`")
            self.at = end + 1
            bounds = (int(low), (int(high) if high else None) if comma else int(low))
        elif char and char in "*+?":
            self._take()
            bounds = {"*": (0, None), "+": (1, None), "?": (0, 1)}[char]
        else:
            return tree
        if bounds[1] is not None and bounds[1] < bounds[0]:
            raise InvalidPatternError("`{m,n}` in the pattern has m after n")
        if self._peek() == "?":
            self._take()  # lazy or not, what matches is the same
        if (again := self._peek()) and again in "*+{":
            raise InvalidPatternError(f"nothing to repeat before `{again}` in the pattern")
        return ("repeat", (tree, *bounds))


def _is(char: str) -> Test:
    return lambda c: c == char


def _between(first: str, last: str) -> Test:
    return lambda c: first <= c <= last


def _build(tree: Tree, after: int, states: list[_State]) -> int:
    """Add the states of a tree in front of state `after`; gives the first of them."""
    kind, parts = tree
    match kind:
        case "test":
            return _add(states, _State(parts[0], next=[after]))  # type: ignore[arg-type]  # by kind
        case "anchor":
            return _add(states, _State(anchor=str(parts[0]), next=[after]))
        case "row":
            for part in reversed(parts):
                after = _build(part, after, states)  # type: ignore[arg-type]  # by kind
            return after
        case "choice":
            starts = [_build(part, after, states) for part in parts]  # type: ignore[arg-type]  # by kind
            return starts[0] if len(starts) == 1 else _add(states, _State(next=starts))
    inner, low, high = parts
    assert isinstance(low, int)
    if high is None:
        loop = _add(states, _State())
        states[loop].next = [_build(inner, loop, states), after]  # type: ignore[arg-type]  # by kind
        after = loop
    else:
        assert isinstance(high, int)
        for _ in range(high - low):
            start = _build(inner, after, states)  # type: ignore[arg-type]  # by kind
            after = _add(states, _State(next=[start, after]))
    for _ in range(low):
        after = _build(inner, after, states)  # type: ignore[arg-type]  # by kind
    return after


def _add(states: list[_State], state: _State) -> int:
    if len(states) >= MAX_STATES:
        raise InvalidPatternError("the pattern is too big")
    states.append(state)
    return len(states) - 1
