"""The graph of stages: who reads whom, what the target reaches, cycles."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torana.core.errors import BuildFileError, SourceRange
from torana.frontends.dockerfile.expansion import Expander, ExpansionError
from torana.frontends.dockerfile.instructions import Copy, Instruction, Run
from torana.frontends.dockerfile.mounts import mount_origin
from torana.frontends.dockerfile.stage import SCRATCH, PlannedStep, Stage, Stages
from torana.frontends.kit.diagnostics import SourceFile, attach

_EXPANDED_FROM = (
    "variable expansion is not supported for --from, define a new stage with FROM using ARG from "
    "global scope as a workaround"
)


def link(
    stage: Stage,
    instruction: Instruction,
    stages: Stages,
    expander: Expander,
    *,
    ranges: tuple[SourceRange, ...],
    is_trigger: bool = False,
) -> PlannedStep:
    """Plan an instruction of `stage`: find the stages that it reads, add the images.

    Raises:
        BuildFileError: `--from` has variables or names no stage by its index; not located.
    """
    sources: Sequence[Stage | None] = ()
    if isinstance(instruction, Copy) and instruction.origin:
        sources = (_copied(instruction, stages, expander, ranges),)
    elif isinstance(instruction, Run) and instruction.mounts:
        sources = [_mounted(mount_origin(text), stages) for text in instruction.mounts]
    step = PlannedStep(instruction, sources, ranges, is_trigger)
    for source in sources:
        if source is None:
            continue
        if source.is_image and source not in stages:
            stages.add(source)
        stage.reads[source] = step
    return step


def _copied(
    instruction: Copy, stages: Stages, expander: Expander, ranges: tuple[SourceRange, ...]
) -> Stage:
    name = instruction.origin
    try:
        is_plain = expander.expand(name, {}).text == name
    except ExpansionError:
        is_plain = False
    if not is_plain:
        raise BuildFileError(_EXPANDED_FROM)
    if name.isascii() and name.isdigit():
        if int(name) >= len(stages.all):
            raise BuildFileError(f"invalid stage index {int(name)}")
        return stages.all[int(name)]
    return stages.find_any_case(name) or Stage(name, is_image=True, ranges=ranges)


def _mounted(name: str, stages: Stages) -> Stage:
    """A mount without `from` still counts as an image of its own, which shows in step names."""
    name = name or SCRATCH
    return stages.find_any_case(name) or Stage(name, is_image=True)


def reachable(target: Stage) -> set[Stage]:
    """Give the stages that the target needs, itself included."""
    return set(depth_first(target))


def depth_first(target: Stage) -> list[Stage]:
    """Give the stages that the target needs: itself, then its base with all below, then others."""
    found: dict[Stage, None] = {}
    waiting = [target]
    while waiting:
        stage = waiting.pop()
        if stage not in found:
            found[stage] = None
            waiting += reversed(_needs(stage))
    return list(found)


def check_cycles(stages: Stages, file: SourceFile) -> None:
    """Refuse stages that read from themselves, directly or through others.

    Raises:
        BuildFileError: located at the instructions that lead there, one after the other.
    """
    done: set[Stage] = set()
    for start in stages.all:
        if start in done:
            continue
        done.add(start)
        path = [(start, iter(start.reads))]
        while path:
            following = next(path[-1][1], None)
            if following is None:
                path.pop()
            elif any(following is stage for stage, _ in path):
                raise _cycle([*(stage for stage, _ in path), following], file)
            elif following not in done:
                done.add(following)
                path.append((following, iter(following.reads)))


def _needs(stage: Stage) -> list[Stage]:
    return [*([stage.base] if stage.base is not None else []), *stage.reads]


def _cycle(path: list[Stage], file: SourceFile) -> BuildFileError:
    error = BuildFileError(f"circular dependency detected on stage: {path[0].label}")
    for stage, following in pairwise(path):
        attach(error, file, stage.reads[following].ranges)
    return error
