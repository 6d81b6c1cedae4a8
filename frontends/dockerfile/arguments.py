"""Predefined arguments, and `Environment`, the ordered variables of a stage.

Spec: expansion reference, sections 4 and 5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import field
from typing import Final

from torana.core.oci.platform import Platform
from torana.core.records import dataclass

SBOM_ARGS: Final = frozenset(("BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"))


class Environment(dict[str, str]):
    """Variables in order: setting a name again moves it to the end."""

    def set(self, name: str, value: str) -> None:
        self.pop(name, None)
        self[name] = value

    def set_all(self, pairs: Iterable[tuple[str, str]]) -> None:
        for name, value in pairs:
            self.set(name, value)

    def lines(self) -> tuple[str, ...]:
        """Give `NAME=value` texts."""
        return tuple(f"{name}={value}" for name, value in self.items())


@dataclass(frozen=True, slots=True)
class DeclaredArg:
    """An argument that a stage declared; `value` None: declared without one."""

    name: str
    value: str | None = None


@dataclass(slots=True)
class DeclaredArgs:
    """The arguments that a stage and its parents declared, in order of first declaration."""

    entries: dict[str, str | None] = field(default_factory=dict)

    def copy(self) -> DeclaredArgs:
        return DeclaredArgs(dict(self.entries))

    def declare(self, name: str, value: str | None) -> None:
        self.entries[name] = value

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)


def predefined(build: Platform, target: Platform, target_stage: str) -> dict[str, str]:
    """Give the arguments that need no declaration in FROM lines; build arguments override them."""
    return {
        "BUILDPLATFORM": build.format(),
        "BUILDOS": build.os,
        "BUILDOSVERSION": build.os_version,
        "BUILDARCH": build.architecture,
        "BUILDVARIANT": build.variant,
        "TARGETPLATFORM": target.format_all(),
        "TARGETOS": target.os,
        "TARGETOSVERSION": target.os_version,
        "TARGETARCH": target.architecture,
        "TARGETVARIANT": target.variant,
        "TARGETSTAGE": target_stage or "default",
    }
