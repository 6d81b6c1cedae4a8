"""What a target can be given: arguments, secrets, ssh agents; filled while stages are evaluated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from torana.core.errors import SourceRange


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlineArg:
    """An argument; `reads` are the global arguments that its default uses."""

    name: str
    ranges: Sequence[SourceRange]
    description: str = ""
    value: str | None = None
    reads: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlineMount:
    """A secret or an agent, as first used."""

    name: str
    ranges: Sequence[SourceRange]
    is_required: bool = False


@dataclass(slots=True)
class Outline:
    """Collects what evaluated stages use."""

    global_args: dict[str, OutlineArg] = field(default_factory=dict)
    used_globals: set[str] = field(default_factory=set)
    stage_args: list[OutlineArg] = field(default_factory=list)
    secrets: dict[str, OutlineMount] = field(default_factory=dict)
    ssh: dict[str, OutlineMount] = field(default_factory=dict)

    def use_globals(self, names: Iterable[str]) -> None:
        """Mark global arguments as used, with those that their defaults use."""
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name in self.global_args and name not in self.used_globals:
                self.used_globals.add(name)
                waiting += self.global_args[name].reads

    @property
    def args(self) -> list[OutlineArg]:
        """All used arguments in the order of the file."""
        used = [arg for name, arg in self.global_args.items() if name in self.used_globals]
        return sorted((*used, *self.stage_args), key=lambda arg: arg.ranges[0].start)


def description(name: str, comments: Iterable[str]) -> str:
    """Give the rest of the first comment line that starts with `name`."""
    for comment in comments:
        word, _, rest = comment.partition(" ")
        if name and word == name:
            return rest.strip()
    return ""
