"""What a target can be given: arguments, secrets, ssh agents; filled while stages are evaluated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Final, TypeVar

from torana.core.errors import Position, SourceRange
from torana.core.records import dataclass

_NOWHERE: Final = Position(0)


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
class StageOutline:
    """What one stage uses, by name; `reads` are the names of its arguments, global ones too."""

    args: dict[str, OutlineArg] = field(default_factory=dict)
    reads: dict[str, None] = field(default_factory=dict)  # in order
    secrets: dict[str, OutlineMount] = field(default_factory=dict)
    ssh: dict[str, OutlineMount] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outline:
    """What a target uses, in the order of the file."""

    args: Sequence[OutlineArg]
    secrets: Sequence[OutlineMount]
    ssh: Sequence[OutlineMount]


Item = TypeVar("Item", OutlineArg, OutlineMount)


def collect(stages: Iterable[StageOutline], global_args: Mapping[str, OutlineArg]) -> Outline:
    """Put together what stages use; a name counts where it comes up first, so the target leads."""
    args: dict[str, OutlineArg] = {}
    secrets: dict[str, OutlineMount] = {}
    ssh: dict[str, OutlineMount] = {}
    for stage in stages:
        known = {**global_args, **stage.args}
        for name in _closure(stage.reads, known):
            if name in known:
                args.setdefault(name, known[name])
        for found, into in ((stage.secrets, secrets), (stage.ssh, ssh)):
            for name, mount in found.items():
                into.setdefault(name, mount)
    return Outline(_by_place(args.values()), _by_place(secrets.values()), _by_place(ssh.values()))


def _closure(names: Iterable[str], known: Mapping[str, OutlineArg]) -> list[str]:
    """Add the arguments that defaults of arguments use."""
    found = dict.fromkeys(names)
    waiting = list(found)
    for name in waiting:  # grows on the way
        for read in known[name].reads if name in known else ():
            if read not in found:
                found[read] = None
                waiting.append(read)
    return waiting


def _by_place(items: Iterable[Item]) -> list[Item]:
    return sorted(items, key=lambda item: item.ranges[0].start if item.ranges else _NOWHERE)


def description(name: str, comments: Iterable[str]) -> str:
    """Give the rest of the first comment line that starts with `name`."""
    for comment in comments:
        word, _, rest = comment.partition(" ")
        if name and word == name:
            return rest.strip()
    return ""
