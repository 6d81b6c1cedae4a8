"""The graph of stages: who reads whom, what the target reaches, cycles."""

from __future__ import annotations

from collections.abc import Sequence

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
    found = {target}
    waiting = [target]
    while waiting:
        stage = waiting.pop()
        needed = [*stage.reads]
        if stage.base is not None:
            needed.append(stage.base)
        for other in needed:
            if other not in found:
                found.add(other)
                waiting.append(other)
    return found


def check_cycles(stages: Stages, file: SourceFile) -> None:
    """Refuse stages that need themselves.

    Raises:
        BuildFileError: located at the instructions of the cycle, one after the other.
    """
    done: set[Stage] = set()
    for start in stages.all:
        if start in done:
            continue
        path: list[Stage] = []
        on_path: set[Stage] = set()
        stack: list[tuple[Stage, list[Stage]]] = [(start, _needs(start))]
        path.append(start)
        on_path.add(start)
        while stack:
            stage, waiting = stack[-1]
            if not waiting:
                stack.pop()
                path.pop()
                on_path.discard(stage)
                done.add(stage)
                continue
            following = waiting.pop(0)
            if following in on_path:
                raise _cycle(path[path.index(following) :], file)
            if following not in done:
                stack.append((following, _needs(following)))
                path.append(following)
                on_path.add(following)


def _needs(stage: Stage) -> list[Stage]:
    return [*([stage.base] if stage.base is not None else []), *stage.reads]


def _cycle(stages: list[Stage], file: SourceFile) -> BuildFileError:
    error = BuildFileError(f"circular dependency detected on stage: {stages[0].label}")
    for stage, following in zip(stages, [*stages[1:], stages[0]], strict=True):
        if following in stage.reads:
            attach(error, file, stage.reads[following].ranges)
    return error
