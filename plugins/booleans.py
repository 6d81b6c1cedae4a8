"""Booleans as BuildKit's options have them.

Spec: `ParseBool` of Go's strconv.
"""

from __future__ import annotations

from typing import Final

_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def parse_boolean(text: str) -> bool | None:
    """Read a boolean, None if it is none."""
    if text in _TRUE:
        return True
    return False if text in _FALSE else None
