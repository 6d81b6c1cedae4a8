"""`Challenge`: what a server wants to be shown, from `WWW-Authenticate`. Pure.

Spec: RFC 9110, section 11.3; Docker registry token authentication.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Final

from torana.core.records import dataclass

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER: Final = re.compile(rf'\s*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]*))\s*,?')
_SCHEME: Final = re.compile(rf"\s*,?\s*({_TOKEN})(?:\s+|$)")
_QUOTED_PAIR: Final = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate; names are in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(values: Iterable[str]) -> list[Challenge]:
    """Read the values of all `WWW-Authenticate` headers; what is malformed is left out."""
    found: list[Challenge] = []
    for value in values:
        position = 0
        while match := _SCHEME.match(value, position):
            position = match.end()
            parameters: dict[str, str] = {}
            while parameter := _PARAMETER.match(value, position):
                name, quoted, plain = parameter.groups()
                text = plain if quoted is None else _QUOTED_PAIR.sub(r"\1", quoted)
                parameters[name.lower()] = text
                position = parameter.end()
            found.append(Challenge(match[1].lower(), parameters))
    return found
