"""Global arguments: what FROM lines may use, and the lint of FROM lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field

from torana.core.errors import BuildFileError
from torana.core.oci.platform import InvalidPlatformError, Platform, parse_platform
from torana.core.oci.reference import InvalidReferenceError, parse_reference
from torana.core.records import dataclass
from torana.frontends.dockerfile import lint
from torana.frontends.dockerfile.expansion import Expander, Expansion, ExpansionError
from torana.frontends.dockerfile.instructions import Arg, From
from torana.frontends.dockerfile.outline import OutlineArg, description
from torana.frontends.dockerfile.planning import Plan
from torana.frontends.kit.diagnostics import SourceFile, located
from torana.frontends.kit.lint import Linter
from torana.frontends.kit.suggest import did_you_mean

_TARGET_PLATFORM = "TARGETPLATFORM"


@dataclass(slots=True)
class GlobalArgs:
    """Values by name; `declared` holds those without a value, too; `outline` what ARG says."""

    values: dict[str, str]
    declared: set[str] = field(default_factory=set)
    outline: dict[str, OutlineArg] = field(default_factory=dict)


def evaluate_globals(
    args: Sequence[Arg],
    predefined: Mapping[str, str],
    build_args: Mapping[str, str],
    expander: Expander,
    file: SourceFile,
) -> GlobalArgs:
    """Give the values of global arguments; each sees those before it.

    Raises:
        ExpansionError: a default cannot be expanded; located at its ARG.
    """
    values = dict(predefined)
    found = GlobalArgs(values, set(values))
    for instruction in args:
        for arg in instruction.args:
            reads: tuple[str, ...] = ()
            if arg.name in build_args:
                values[arg.name] = build_args[arg.name]
            elif arg.value is not None:
                with located(file, instruction.ranges):
                    expansion = expander.expand(arg.value, values)
                values[arg.name] = expansion.text
                reads = _reads(arg.name, expansion, found.outline)
            found.declared.add(arg.name)
            found.outline[arg.name] = OutlineArg(
                name=arg.name,
                ranges=instruction.ranges,
                description=description(arg.name, instruction.comments),
                value=values.get(arg.name),
                reads=reads,
            )
    return found


def _reads(name: str, found: Expansion, earlier: Mapping[str, OutlineArg]) -> tuple[str, ...]:
    """Give the arguments that a default uses; one that uses itself uses what it used before."""
    others = tuple(other for other in found.matched if other != name)
    if name in found.matched and name in earlier:
        return (*others, *earlier[name].reads)
    return others


def lint_defaults(
    plan: Plan, predefined: Mapping[str, str], expander: Expander, file: SourceFile, linter: Linter
) -> None:
    """Report FROM lines that make no sense without build arguments."""
    try:
        values = evaluate_globals(plan.global_args, predefined, {}, expander, file).values
    except ExpansionError:
        return
    for stage in plan.stages:
        try:
            name = expander.expand(stage.head.base, values).text
            parse_reference(name)
        except ExpansionError:
            return
        except InvalidReferenceError:
            linter.report(
                lint.INVALID_DEFAULT_ARG_IN_FROM,
                f"Default value for ARG {stage.head.base} results in empty or invalid base image "
                "name",
                stage.head.ranges,
            )


@dataclass(frozen=True, slots=True)
class Base:
    """An evaluated FROM line."""

    name: str
    platform: Platform | None
    reads: tuple[str, ...] = ()


def evaluate_from(
    head: From, args: GlobalArgs, expander: Expander, file: SourceFile, linter: Linter
) -> Base:
    """Expand name and platform of a FROM.

    Raises:
        BuildFileError: either is empty or malformed; not located yet.
    """
    found = _expanded(head.base, head, args, expander, linter)
    if not found.text:
        raise BuildFileError(f"base name ({head.base}) should not be blank")
    reads = tuple(found.matched)
    if not head.platform:
        return Base(found.text, None, reads)
    try:
        with_platform = _expanded(head.platform, head, args, expander, linter)
    except ExpansionError as err:
        raise BuildFileError(f"failed to process arguments for platform : {err.message}") from err
    _lint_platform(head, with_platform, args, linter)
    hint = _near_variable(with_platform, args)
    if not with_platform.text:
        raise BuildFileError(f"empty platform value from expression {head.platform}{hint}")
    with located(file, head.ranges):
        try:
            platform = parse_platform(with_platform.text)
        except InvalidPlatformError as err:
            raise BuildFileError(
                f"failed to parse platform {head.platform}: {err.message}{hint}"
            ) from err
    return Base(found.text, platform, (*reads, *with_platform.matched))


def _near_variable(found: Expansion, args: GlobalArgs) -> str:
    """Give a suggestion for the first unknown variable that has one among those with a value."""
    names = list(args.values)
    return next(filter(None, (did_you_mean(name, names) for name in found.unmatched)), "")


def _expanded(
    text: str, head: From, args: GlobalArgs, expander: Expander, linter: Linter
) -> Expansion:
    try:
        found = expander.expand(text, args.values)
    except ExpansionError as err:
        _report_undeclared(err.unmatched, head, args, linter)
        raise
    _report_undeclared(found.unmatched, head, args, linter)
    return found


def _report_undeclared(names: Iterable[str], head: From, args: GlobalArgs, linter: Linter) -> None:
    for name in names:
        if name not in args.declared:
            hint = did_you_mean(name, sorted(args.declared))
            linter.report(
                lint.UNDEFINED_ARG_IN_FROM,
                f"FROM argument '{name}' is not declared{hint}",
                head.ranges,
                head.comments,
            )


def _lint_platform(head: From, found: Expansion, args: GlobalArgs, linter: Linter) -> None:
    if found.matched or found.unmatched:
        is_redundant = found.text == args.values.get(_TARGET_PLATFORM)
        if tuple(found.matched) == (_TARGET_PLATFORM,) and not found.unmatched and is_redundant:
            linter.report(
                lint.REDUNDANT_TARGET_PLATFORM,
                f"Setting platform to predefined {head.platform} in FROM is redundant as this is "
                "the default behavior",
                head.ranges,
                head.comments,
            )
        return
    try:
        platform = parse_platform(found.text)
    except InvalidPlatformError:
        return
    if platform.os not in head.name and platform.architecture not in head.name:
        linter.report(
            lint.FROM_PLATFORM_FLAG_CONST_DISALLOWED,
            f'FROM --platform flag should not use constant value "{found.text}"',
            head.ranges,
            head.comments,
        )
