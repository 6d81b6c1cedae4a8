"""Answers to subrequests: outline, targets, lint, describe, convertllb.

Spec: lint reference, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence

from torana.core.errors import ToranaError
from torana.frontends.dockerfile.convert import Conversion
from torana.frontends.dockerfile.outline import OutlineMount, description
from torana.frontends.dockerfile.planning import read_file
from torana.frontends.dockerfile.stage import Stage
from torana.frontends.kit.answers import (
    OutlineEntries,
    OutlineEntry,
    TargetEntry,
    convert_answer,
    lint_answer,
    outline_answer,
    requests_answer,
    targets_answer,
)
from torana.frontends.kit.context import BuildContext
from torana.frontends.kit.findings import lint_config, send_findings
from torana.frontends.kit.lint import Finding, LintConfig, Linter
from torana.frontends.kit.subrequests import UnsupportedRequestError
from torana.gateway.client.client import Result


async def answer_request(name: str, context: BuildContext) -> Result:
    """Answer the subrequest `name`.

    Raises:
        UnsupportedRequestError: there is none of that name.
    """
    match name:
        case "frontend.subrequests.describe":
            return requests_answer(
                outline="List all parameters current build target supports",
                targets="List all targets current build supports",
                others={},
            )
        case "frontend.targets":
            return _targets(context)
        case "frontend.outline":
            return await _outline(context, lint_config(context))
        case "frontend.lint":
            return await _lint(context)
        case "frontend.convertllb":
            return await _convert(context, lint_config(context))
    raise UnsupportedRequestError(name)


def _targets(context: BuildContext) -> Result:
    try:
        plan = read_file(context.file, Linter(is_active=False))
    except ToranaError as err:
        err.sources = ()
        raise
    entries = [
        TargetEntry(
            name=stage.head.name,
            ranges=stage.head.ranges,
            is_default=stage is plan.stages[-1],
            description=description(stage.head.name, stage.head.comments),
            base=stage.head.base,
            platform=stage.head.platform,
        )
        for stage in plan.stages
    ]
    return targets_answer(context.file, entries)


async def _outline(context: BuildContext, config: LintConfig) -> Result:
    conversion = _implicit(context, config)
    target = await _evaluated(conversion)
    outline = conversion.outline()
    entries = OutlineEntries(
        name=target.name,
        description=description(target.name, target.comments),
        args=[
            OutlineEntry(
                name=arg.name, ranges=arg.ranges, description=arg.description, value=arg.value
            )
            for arg in outline.args
        ],
        secrets=[_mount(mount) for mount in outline.secrets],
        ssh=[_mount(mount) for mount in outline.ssh],
    )
    return outline_answer(context.file, entries)


def _mount(mount: OutlineMount) -> OutlineEntry:
    return OutlineEntry(name=mount.name, ranges=mount.ranges, is_required=mount.is_required)


def _implicit(context: BuildContext, config: LintConfig, *, all_stages: bool = False) -> Conversion:
    """Give the conversion that answers requests; the platforms asked for don't matter to it."""
    return Conversion(context=context, platform=None, linter=Linter(config), all_stages=all_stages)


async def _evaluated(conversion: Conversion) -> Stage:
    """Evaluate, and send what was found; failures of subrequests carry no sources."""
    try:
        return await conversion.evaluate()
    except ToranaError as err:
        err.sources = ()
        raise
    finally:
        await send_findings(conversion.context, conversion.linter.findings)


async def _lint(context: BuildContext) -> Result:
    findings: Sequence[Finding] = ()
    failure: ToranaError | None = None
    try:
        conversion = _implicit(context, lint_config(context), all_stages=not context.options.target)
        findings = conversion.linter.findings
        await conversion.evaluate()
    except ToranaError as err:
        failure = err
    return lint_answer(context.file, findings, failure)


async def _convert(context: BuildContext, config: LintConfig) -> Result:
    """Give the LLB of the target as JSON, ops by digest."""
    conversion = _implicit(context, config)
    target = await _evaluated(conversion)
    definition = conversion.marshal(conversion.emitter().stage(target))
    return convert_answer(context.file, definition)
