"""Flags of instructions: `--name`, `--name=value`, `--name` many times.

Spec: syntax reference, section 9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import Enum

from torana.core.errors import BuildFileError
from torana.core.records import dataclass
from torana.frontends.kit.suggest import did_you_mean


class FlagKind(Enum):
    BOOLEAN = "boolean"
    TEXT = "text"
    TEXTS = "texts"


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags of one instruction; what was not given is absent."""

    texts: Mapping[str, str] = field(default_factory=dict)
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    booleans: Mapping[str, bool] = field(default_factory=dict)

    def text(self, name: str) -> str:
        return self.texts.get(name, "")

    def list(self, name: str) -> tuple[str, ...]:
        return self.lists.get(name, ())

    def boolean(self, name: str) -> bool | None:
        return self.booleans.get(name)


def parse_flags(given: Sequence[str], known: Mapping[str, FlagKind]) -> Flags:
    """Check flags against what an instruction knows.

    Raises:
        BuildFileError: an unknown or repeated flag, a missing or bad value.
    """
    texts: dict[str, str] = {}
    lists: dict[str, tuple[str, ...]] = {}
    booleans: dict[str, bool] = {}
    seen: set[str] = set()
    for flag in given:
        name, equals, value = flag[2:].partition("=")
        kind = known.get(name)
        if kind is None:
            raise BuildFileError(f"unknown flag: --{name}{did_you_mean(name, known)}")
        if name in seen and kind is not FlagKind.TEXTS:
            raise BuildFileError(f"duplicate flag specified: --{name}")
        seen.add(name)
        if kind is FlagKind.BOOLEAN:
            booleans[name] = _boolean(name, value) if equals else True
        elif not equals:
            raise BuildFileError(f"missing a value on flag: --{name}")
        elif kind is FlagKind.TEXT:
            texts[name] = value
        else:
            lists[name] = (*lists.get(name, ()), value)
    return Flags(texts, lists, booleans)


def _boolean(name: str, value: str) -> bool:
    if not value:
        raise BuildFileError(f"missing a value on flag: --{name}")
    if value.lower() not in ("true", "false"):
        raise BuildFileError(f"expecting boolean value for flag --{name}, not: {value}")
    return value.lower() == "true"
