"""Symbolic and octal modes, evaluated with umask 0.

Grammar: octal digits, or clauses separated by commas; a clause is `[ugoa]*` and one or more of
`[+-=]` with letters of `rwxXstugo`, the last three copying that class. As in BSD's `chmod`:
`u` and `g` have their set-id bit, `t` needs a class other than `o` alone, `=` keeps the sticky
bit, and a copied class leaves set-id bits alone.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from torana.core.errors import UserError
from torana.core.records import dataclass

PERMISSIONS: Final = 0o7777
_MASKS: Final = {"u": 0o4700, "g": 0o2070, "o": 0o0007, "a": 0o6777}
_BITS: Final = {"r": 0o444, "w": 0o222, "x": 0o111, "s": 0o6000}
_SHIFT: Final = {"u": 6, "g": 3, "o": 0}
_CLAUSE: Final = re.compile(r"([ugoa]*)((?:[-+=][rwxXstugo]*)+)")
_ACTION: Final = re.compile(r"([-+=])([rwxXstugo]*)")
_OCTAL: Final = re.compile(r"[0-7]{1,6}")


class InvalidModeError(UserError):
    """Text is no mode."""

    code = "MODE_INVALID"


@dataclass(frozen=True, slots=True)
class Change:
    """One `+`, `-` or `=` on the classes of `who`, empty meaning all."""

    who: str
    operator: str
    permissions: str

    def apply(self, mode: int, *, can_execute: bool) -> int:
        """Change `mode` (permission bits and the three special ones); `can_execute` is for `X`."""
        mask = 0
        for letter in self.who or "a":
            mask |= _MASKS[letter]
        value = self._value(mode, can_execute=can_execute) & mask
        if "t" in self.permissions and mask & ~0o7:
            value |= 0o1000
        if self.operator == "+":
            return mode | value
        if self.operator == "-":
            return mode & ~value
        copies = self.permissions and all(letter in _SHIFT for letter in self.permissions)
        return mode & ~(mask & 0o777 if copies else mask) | value

    def _value(self, mode: int, *, can_execute: bool) -> int:
        value = 0
        for letter in self.permissions:
            if letter == "X":
                value |= 0o111 if can_execute else 0
            elif letter in _SHIFT:
                value |= (mode >> _SHIFT[letter] & 0o7) * 0o111
            else:
                value |= _BITS.get(letter, 0)
        return value


@dataclass(frozen=True, slots=True)
class ModeChange:
    """A parsed mode; `octal` replaces all bits, else `changes` run in order."""

    octal: int | None = None
    changes: tuple[Change, ...] = ()

    def apply(self, mode: int, *, is_dir: bool) -> int:
        """Give the new permission bits of an entry that has `mode`."""
        if self.octal is not None:
            return self.octal
        # `X` looks at the mode before all changes.
        can_execute = is_dir or bool(mode & 0o111)
        for change in self.changes:
            mode = change.apply(mode, can_execute=can_execute)
        return mode


@lru_cache(maxsize=64)
def parse_mode(text: str) -> ModeChange:
    """Read an octal or symbolic mode.

    Raises:
        InvalidModeError: it is neither.
    """
    if _OCTAL.fullmatch(text) and int(text, 8) <= PERMISSIONS:
        return ModeChange(octal=int(text, 8))
    changes: list[Change] = []
    for clause in text.split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise InvalidModeError(f"invalid mode: invalid syntax: `{text}`")
        changes += [Change(match[1], op, what) for op, what in _ACTION.findall(match[2])]
    return ModeChange(changes=tuple(changes))
