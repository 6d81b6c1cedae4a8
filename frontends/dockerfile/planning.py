"""From nodes to stages as text: every instruction checked, and the lint that needs no more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import field

from torana.core.errors import BuildFileError, SourceRange
from torana.core.records import dataclass
from torana.frontends.dockerfile import lint
from torana.frontends.dockerfile.instructions import (
    Arg,
    From,
    Instruction,
    StageText,
    read_instruction,
)
from torana.frontends.dockerfile.parser import LocatedError, Node, Tree, parse
from torana.frontends.kit.diagnostics import SourceFile, attach
from torana.frontends.kit.lint import Linter

_RESERVED = frozenset(("context", "scratch"))


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole file: global arguments and stages."""

    tree: Tree
    global_args: list[Arg] = field(default_factory=list)
    stages: list[StageText] = field(default_factory=list)


def read_file(file: SourceFile, linter: Linter) -> Plan:
    """Parse and check a file.

    Raises:
        BuildFileError: the first error of the text, else of the first wrong instruction.
    """
    try:
        tree = parse(file.data, file.filename)
    except LocatedError as err:
        attach(err, file, err.ranges)
        raise
    for found in tree.empty_continuations:
        linter.report(lint.NO_EMPTY_CONTINUATION, "Empty continuation line", file.lines(found.line))
    plan = Plan(tree)
    for node in tree.nodes:
        ranges = node.ranges(file.filename)
        _lint_unread(node, ranges, linter)
        try:
            instruction = read_instruction(node, file.filename)
        except BuildFileError as err:
            failure = BuildFileError(
                f"dockerfile parse error on line {node.first}: {err.message}", hint=err.hint
            )
            attach(failure, file, ranges)
            raise failure from err
        _lint_alone(instruction, linter)
        if isinstance(instruction, From):
            plan.stages.append(StageText(instruction))
        elif plan.stages:
            plan.stages[-1].body.append(instruction)
        elif isinstance(instruction, Arg):
            plan.global_args.append(instruction)
        else:
            failure = BuildFileError("no build stage in current context")
            attach(failure, file, ranges)
            raise failure
    if not plan.stages:
        raise BuildFileError("dockerfile contains no stages to build")
    return plan


def lint_together(plan: Plan, linter: Linter) -> None:
    """Report what shows only with all stages in view: names and casing."""
    seen: set[str] = set()
    for stage in plan.stages:
        name, ranges = stage.head.name, stage.head.ranges
        if name in _RESERVED:
            linter.report(
                lint.RESERVED_STAGE_NAME,
                f'Stage name should not use the same name as reserved stage "{name}"',
                ranges,
            )
        if name and name in seen:
            linter.report(
                lint.DUPLICATE_STAGE_NAME,
                f'Duplicate stage name "{name}", stage names should be unique',
                ranges,
            )
        seen.add(name)
    _lint_casing(plan, linter)


def _lint_casing(plan: Plan, linter: Linter) -> None:
    instructions = [
        instruction for stage in plan.stages for instruction in (stage.head, *stage.body)
    ]
    counts = Counter(_case(instruction.word) for instruction in instructions)
    majority = "lowercase" if counts["lowercase"] > counts["uppercase"] else "uppercase"
    for instruction in instructions:
        if _case(instruction.word) != majority:
            linter.report(
                lint.CONSISTENT_INSTRUCTION_CASING,
                f"Command '{instruction.word}' should match the case of the command majority "
                f"({majority})",
                instruction.ranges,
            )


def _case(word: str) -> str:
    if word == word.lower():
        return "lowercase"
    return "uppercase" if word == word.upper() else ""


def _lint_unread(node: Node, ranges: tuple[SourceRange, ...], linter: Linter) -> None:
    """Report what shows before an instruction is checked, so also of one that is wrong."""
    if node.name == "maintainer":
        linter.report(
            lint.MAINTAINER_DEPRECATED,
            "Maintainer instruction is deprecated in favor of using label",
            ranges,
            node.comments,
        )
    elif node.name == "from" and len(node.args) > 2:
        _, word, written = node.args[:3]
        if len(node.args) == 3 and written != written.lower():
            linter.report(
                lint.STAGE_NAME_CASING,
                f"Stage name '{written}' should be lowercase",
                ranges,
                node.comments,
            )
        if (case := _case(node.word)) and _case(word) != case:
            linter.report(
                lint.FROM_AS_CASING,
                f"'{word}' and '{node.word}' keywords' casing do not match",
                ranges,
                node.comments,
            )


def _lint_alone(instruction: Instruction, linter: Linter) -> None:
    if isinstance(instruction, Arg):
        names = [arg.name for arg in instruction.args]
        shown = names[0] if len(names) == 1 else "<arg_key>"
        _lint_description("ARG", names, shown, instruction, linter)
    elif isinstance(instruction, From) and instruction.name:
        name = instruction.name
        _lint_description("FROM", [name], name, instruction, linter)


def _lint_description(
    word: str, names: Iterable[str], shown: str, instruction: Instruction, linter: Linter
) -> None:
    if not instruction.comments:
        return
    first = instruction.comments[-1].split(" ", 1)[0]
    if first not in names:
        linter.report(
            lint.INVALID_DEFINITION_DESCRIPTION,
            f"Comment for {word} should follow the format: `# {shown} <description>`",
            instruction.ranges,
            instruction.comments,
        )
