"""Global arguments: what FROM lines may use, and the lint of FROM lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torana.core.errors import BuildFileError
from torana.core.oci.platform import InvalidPlatformError, Platform, parse_platform
from torana.core.oci.reference import InvalidReferenceError, parse_reference
from torana.frontends.dockerfile import lint
from torana.frontends.dockerfile.expansion import Expander, Expansion, ExpansionError
from torana.frontends.dockerfile.instructions import Arg, From
from torana.frontends.dockerfile.lint import Linter
from torana.frontends.dockerfile.outline import Outline, OutlineArg, description
from torana.frontends.dockerfile.planning import Plan
from torana.frontends.kit.diagnostics import SourceFile, located
from torana.frontends.kit.suggest import did_you_mean

EPOCH = "SOURCE_DATE_EPOCH"


@dataclass(slots=True)
class GlobalArgs:
    """Values by name; `declared` holds those without a value, too."""

    values: dict[str, str]
    declared: set[str] = field(default_factory=set)


def evaluate_globals(
    args: Sequence[Arg],
    predefined: Mapping[str, str],
    build_args: Mapping[str, str],
    expander: Expander,
    file: SourceFile,
    outline: Outline | None = None,
) -> GlobalArgs:
    """Give the values of global arguments; each sees those before it.

    Raises:
        ExpansionError: a default cannot be expanded; located at its ARG.
    """
    values = {name: build_args.get(name, value) for name, value in predefined.items()}
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
                reads = (*expansion.matched, *expansion.unmatched)
            found.declared.add(arg.name)
            if outline is not None:
                outline.global_args[arg.name] = OutlineArg(
                    name=arg.name,
                    ranges=instruction.ranges,
                    description=description(arg.name, instruction.comments),
                    value=values.get(arg.name),
                    reads=reads,
                )
    return found


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
            continue
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
    found = expander.expand(head.base, args.values)
    _report_undeclared(found, head, args, linter)
    if not found.text:
        raise BuildFileError(f"base name ({head.base}) should not be blank")
    reads = (*found.matched, *found.unmatched)
    if not head.platform:
        return Base(found.text, None, reads)
    with_platform = expander.expand(head.platform, args.values)
    _report_undeclared(with_platform, head, args, linter)
    if not with_platform.text:
        missing = with_platform.unmatched[0] if with_platform.unmatched else ""
        hint = did_you_mean(missing, sorted(args.declared)) if missing else ""
        raise BuildFileError(f"empty platform value from expression {head.platform}{hint}")
    with located(file, head.ranges):
        try:
            platform = parse_platform(with_platform.text).normalized()
        except InvalidPlatformError as err:
            raise BuildFileError(
                f"failed to parse platform {head.platform}: {err.message}"
            ) from err
    _lint_platform(head, with_platform, platform, linter)
    reads = (*reads, *with_platform.matched, *with_platform.unmatched)
    return Base(found.text, platform, reads)


def _report_undeclared(found: Expansion, head: From, args: GlobalArgs, linter: Linter) -> None:
    for name in found.unmatched:
        if name not in args.declared:
            hint = did_you_mean(name, sorted(args.declared))
            linter.report(
                lint.UNDEFINED_ARG_IN_FROM,
                f"FROM argument '{name}' is not declared{hint}",
                head.ranges,
                head.comments,
            )


def _lint_platform(head: From, found: Expansion, platform: Platform, linter: Linter) -> None:
    if head.platform in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
        linter.report(
            lint.REDUNDANT_TARGET_PLATFORM,
            f"Setting platform to predefined {head.platform} in FROM is redundant as this is the "
            "default behavior",
            head.ranges,
            head.comments,
        )
    if found.matched or found.unmatched:
        return
    if platform.os not in head.name and platform.architecture not in head.name:
        linter.report(
            lint.FROM_PLATFORM_FLAG_CONST_DISALLOWED,
            f'FROM --platform flag should not use constant value "{head.platform}"',
            head.ranges,
            head.comments,
        )
