"""Answers to subrequests that any frontend gets from what it declares.

Spec: lint reference, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from torana.core.errors import ToranaError
from torana.core.oci.digest import Digest
from torana.frontends.kit.context import BuildContext
from torana.frontends.kit.diagnostics import render_excerpt
from torana.frontends.kit.documents import (
    build_error,
    lint_source,
    location,
    present,
    request_entry,
    source_text,
)
from torana.frontends.kit.lint import Finding
from torana.frontends.kit.lowering import Target
from torana.frontends.kit.optionspec import OptionSpec
from torana.frontends.kit.subrequests import DESCRIBE, answer, describe, table
from torana.gateway.client.client import Result, Warning

_VERSION: Final = "1.0.0"
REQUESTS: Final = (
    request_entry(
        "frontend.outline",
        _VERSION,
        "List all parameters current build target supports",
        [{"name": "target", "description": "Target build stage"}],
    ),
    request_entry("frontend.targets", _VERSION, "List all targets current build supports", []),
    request_entry("frontend.lint", _VERSION, "Check the build file for doubtful things", []),
    request_entry(DESCRIBE, _VERSION, "List available subrequest types", None),
)


def describe_requests() -> Result:
    return describe(REQUESTS)


def targets_answer(
    context: BuildContext, targets: Sequence[Target], default: Target | None
) -> Result:
    entries = []
    rows = [("TARGET", "DESCRIPTION")]
    for target in targets:
        is_default = target is default
        entry = {
            "name": target.name,
            "default": is_default,
            "description": target.description,
            "location": location((target.place.range,)),
        }
        entries.append(present(entry))
        rows.append((f"{target.name} (default)" if is_default else target.name, target.description))
    document = {"targets": entries, "sources": [source_text(context.file)]}
    return answer(document, table(rows), _VERSION)


def outline_answer(
    context: BuildContext, target: Target | None, specs: Sequence[OptionSpec]
) -> Result:
    given = context.options.build_args
    args = []
    rows = [("BUILD ARG", "VALUE", "DESCRIPTION")]
    for spec in specs:
        value = given.get(spec.build_arg, spec.shown_default)
        entry = {"name": spec.build_arg, "description": spec.help, "value": value}
        args.append({**present(entry), "location": {"ranges": []}})
        rows.append((spec.build_arg, value, spec.help))
    name = "" if target is None else target.name
    about = "" if target is None else target.description
    head = [("TARGET:", name)] if name else []
    head += [("DESCRIPTION:", about)] if about else []
    parts = [table(head)] if head else []
    parts += [table(rows, gap=3)] if args else []
    document = present(
        {
            "name": name,
            "description": about,
            "args": args,
            "sources": [source_text(context.file)],
        }
    )
    return answer(document, "".join(f"{part}\n" for part in parts), _VERSION)


def lint_answer(
    context: BuildContext, findings: Sequence[Finding], failure: ToranaError | None
) -> Result:
    document: dict[str, Any] = {
        "warnings": [_finding(finding) for finding in findings] or None,
        "sources": [lint_source(context.file)],
    }
    if failure is not None:
        document["buildError"] = build_error(failure)
    code = b"1" if findings or failure is not None else b"0"
    text = "".join(_finding_text(finding, context) for finding in findings)
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


def _finding_text(finding: Finding, context: BuildContext) -> str:
    url = f" - {finding.rule.url}" if finding.rule.url else ""
    excerpt = render_excerpt(context.file.excerpt(finding.ranges))
    return f"\nWARNING: {finding.rule.name}{url}\n{finding.message}\n{excerpt}"


async def send_findings(context: BuildContext, findings: Sequence[Finding]) -> None:
    """Send what was found as warnings on the step that loads the file."""
    definition = context.file.definition
    if not findings or definition is None or len(definition.ops) < 2:
        return
    vertex = Digest.of(definition.ops[-2])
    for finding in findings:
        try:
            await context.client.warn(
                Warning(
                    vertex=vertex,
                    short=finding.short,
                    detail=(finding.rule.description,),
                    url=finding.rule.url,
                    ranges=finding.ranges,
                    data=context.file.data,
                )
            )
        except ToranaError:
            return  # an engine without warnings builds all the same
