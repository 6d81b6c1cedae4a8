"""Answers to subrequests: outline, targets, lint, describe, convertllb.

Spec: lint reference, section 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from torana.core.errors import ToranaError
from torana.frontends.dockerfile.convert import Conversion
from torana.frontends.dockerfile.findings import lint_config, send_findings
from torana.frontends.dockerfile.outline import Outline, OutlineArg, OutlineMount, description
from torana.frontends.dockerfile.planning import read_file
from torana.frontends.dockerfile.stage import Stage
from torana.frontends.kit.context import BuildContext
from torana.frontends.kit.diagnostics import render_excerpt
from torana.frontends.kit.documents import (
    build_error,
    converted,
    lint_source,
    location,
    present,
    request_entry,
    source_text,
)
from torana.frontends.kit.lint import Finding, LintConfig, Linter
from torana.frontends.kit.subrequests import (
    DESCRIBE,
    UnsupportedRequestError,
    answer,
    describe,
    table,
)
from torana.gateway.client.client import Result

_VERSION: Final = "1.0.0"
_CONVERT_VERSION: Final = "0.1.0"
_PUBLIC: Final = (
    request_entry(
        "frontend.outline",
        _VERSION,
        "List all parameters current build target supports",
        [{"name": "target", "description": "Target build stage"}],
    ),
    request_entry("frontend.targets", _VERSION, "List all targets current build supports", []),
    request_entry(DESCRIBE, _VERSION, "List available subrequest types", None),
)


async def answer_request(name: str, context: BuildContext) -> Result:
    """Answer the subrequest `name`.

    Raises:
        UnsupportedRequestError: there is none of that name.
    """
    match name:
        case "frontend.subrequests.describe":
            return describe(_PUBLIC)
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
    entries = []
    rows = [("TARGET", "DESCRIPTION")]
    for stage in plan.stages:
        head = stage.head
        about = description(head.name, head.comments)
        is_default = stage is plan.stages[-1]
        entry = {
            "name": head.name,
            "default": is_default,
            "description": about,
            "base": head.base,
            "platform": head.platform,
            "location": location(head.ranges),
        }
        entries.append(present(entry))
        shown = " ".join(part for part in (head.name, "(default)" if is_default else "") if part)
        rows.append((shown, about))
    document = {"targets": entries, "sources": [source_text(context.file)]}
    return answer(document, table(rows), _VERSION)


async def _outline(context: BuildContext, config: LintConfig) -> Result:
    conversion = _implicit(context, config)
    target = await _evaluated(conversion)
    outline = conversion.outline()
    about = description(target.name, target.comments)
    document = present(
        {
            "name": target.name,
            "description": about,
            "args": [_arg(arg) for arg in outline.args],
            "secrets": [_mount(mount) for mount in outline.secrets],
            "ssh": [_mount(mount) for mount in outline.ssh],
            "sources": [source_text(context.file)],
        }
    )
    return answer(document, _outline_text(target.name, about, outline), _VERSION)


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
        await send_findings(conversion.context, conversion.linter)


def _arg(arg: OutlineArg) -> dict[str, Any]:
    return {
        "name": arg.name,
        **present({"description": arg.description, "value": arg.value}),
        "location": location(arg.ranges),
    }


def _mount(mount: OutlineMount) -> dict[str, Any]:
    required = {"required": True} if mount.is_required else {}
    return {"name": mount.name, **required, "location": location(mount.ranges)}


def _outline_text(name: str, about: str, outline: Outline) -> str:
    head = [("TARGET:", name)] if name else []
    head += [("DESCRIPTION:", about)] if about else []
    parts = [table(head)] if head else []
    if args := outline.args:
        rows = [("BUILD ARG", "VALUE", "DESCRIPTION")]
        rows += [(arg.name, arg.value or "", arg.description) for arg in args]
        parts.append(table(rows, gap=3))
    for title, mounts in (("SECRET", outline.secrets), ("SSH", outline.ssh)):
        if mounts:
            uses = [(m.name, "true" if m.is_required else "") for m in mounts]
            parts.append(table([(title, "REQUIRED"), *uses], gap=3))
    return "".join(f"{part}\n" for part in parts)


async def _lint(context: BuildContext) -> Result:
    findings: Sequence[Finding] = ()
    failure: ToranaError | None = None
    try:
        conversion = _implicit(context, lint_config(context), all_stages=not context.options.target)
        findings = conversion.linter.findings
        await conversion.evaluate()
    except ToranaError as err:
        failure = err
    document: dict[str, Any] = {
        "warnings": [_finding(finding) for finding in findings] or None,
        "sources": [lint_source(context.file)],
    }
    if failure is not None:
        document["buildError"] = build_error(failure)
    code = b"1" if findings or failure is not None else b"0"
    text = "".join(_finding_text(finding, context) for finding in _by_first(findings))
    return answer(document, text, _VERSION, {"result.statuscode": code})


def _finding(finding: Finding) -> dict[str, Any]:
    entry = {
        "ruleName": finding.rule.name,
        "description": finding.rule.description,
        "url": finding.rule.url,
        "detail": finding.message,
        "location": location(finding.ranges),
    }
    return present(entry)


async def _convert(context: BuildContext, config: LintConfig) -> Result:
    """Give the LLB of the target as JSON, ops by digest."""
    conversion = _implicit(context, config)
    target = await _evaluated(conversion)
    definition = conversion.marshal(conversion.emitter().stage(target))
    return answer(converted(definition, context.file), None, _CONVERT_VERSION)


def _by_first(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda found: found.ranges[0].start.line if found.ranges else 0)


def _finding_text(finding: Finding, context: BuildContext) -> str:
    url = f" - {finding.rule.url}" if finding.rule.url else ""
    excerpt = render_excerpt(context.file.excerpt(finding.ranges))
    return f"\nWARNING: {finding.rule.name}{url}\n{finding.message}\n{excerpt}"
