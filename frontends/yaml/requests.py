"""Answers to subrequests: outline, targets, lint, describe, convertllb, and the lock file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from torana.core.errors import ToranaError
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
from torana.frontends.kit.subrequests import (
    DESCRIBE,
    UnsupportedRequestError,
    answer,
    describe,
    table,
)
from torana.frontends.kit.values import parse_bool
from torana.frontends.yaml import fields
from torana.frontends.yaml import model as m
from torana.frontends.yaml.catalog import Catalog
from torana.frontends.yaml.conversion import Conversion, surroundings
from torana.frontends.yaml.document import Document
from torana.frontends.yaml.expressions.values import text
from torana.frontends.yaml.includes import Loader, open_document
from torana.frontends.yaml.lint import Finding, lint
from torana.frontends.yaml.lock import UPDATE, Lock, lock_name, read_lock
from torana.frontends.yaml.nodes import Mark, Table
from torana.frontends.yaml.platforms import platforms
from torana.gateway.client.client import Result

LOCK: Final = "frontend.lock"
_VERSION: Final = "1.0.0"
_CONVERT_VERSION: Final = "0.1.0"
_TARGET: Final = [{"name": "target", "description": "Stage, variant or group"}]
_PUBLIC: Final = (
    request_entry(
        "frontend.outline", _VERSION, "List arguments, secrets and tests of a target", _TARGET
    ),
    request_entry("frontend.targets", _VERSION, "List stages, variants and groups", []),
    request_entry("frontend.lint", _VERSION, "Check the build file", []),
    request_entry(LOCK, _VERSION, "Pin images and includes", []),
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
            return await _targets(context)
        case "frontend.outline":
            return await _outline(context)
        case "frontend.lint":
            return await _lint(context)
        case "frontend.convertllb":
            return await _convert(context)
        case "frontend.lock":
            return await _lock(context)
    raise UnsupportedRequestError(name)


async def _conversion(context: BuildContext) -> Conversion:
    lock = await read_lock(context)
    document = await open_document(context, lock)
    return Conversion(
        context=context,
        document=document,
        platform=platforms(context, document)[0],
        locked=lock.images,
        is_locked=lock.is_strict,
    )


async def _targets(context: BuildContext) -> Result:
    conversion = await _conversion(context)
    document = conversion.document
    catalog = Catalog.of(
        document,
        context.options.build_args,
        surroundings(context, conversion.platform),
        has_placeholders=True,
    )
    try:
        default = catalog.target("", document)
    except ToranaError:
        default = ""
    entries, rows = [], [("TARGET", "DESCRIPTION")]

    def add(name: str, mark: Mark, node: Table | None, about: str) -> None:
        entry: dict[str, Any] = {
            "name": name,
            "default": name == default,
            "description": about,
            "base": fields.text(node.get("from")) if node is not None else "",
            "platform": fields.text(node.get("platform")) if node is not None else "",
            "location": location(mark.lines),
        }
        entries.append(present(entry))
        rows.append((f"{name} (default)" if name == default else name, about))

    for name, stage in catalog.stages.items():
        if not stage.group and not stage.is_left_out:
            add(name, stage.mark, stage.node, fields.text(stage.node.get("description")))
    for name, group in catalog.groups.items():
        about = _group_text(catalog, name, len(group.members))
        add(name, group.mark, None, about)
        for member in group.members:
            node = catalog.stages[member].node
            add(member, group.mark, node, fields.text(node.get("description")))
    document_ = {"targets": entries, "sources": [source_text(context.file)]}
    return answer(document_, table(rows), _VERSION)


def _group_text(catalog: Catalog, name: str, count: int) -> str:
    described = next(
        (
            fields.text(s.node.get("description"))
            for s in catalog.stages.values()
            if s.group == name
        ),
        "",
    )
    return f"{described} ({count} variants)".strip()


async def _outline(context: BuildContext) -> Result:
    conversion = await _conversion(context)
    conversion.plan(is_question=True)
    document, name = conversion.document, conversion.target
    stages = conversion.stages
    about = next((each.description for each in stages if each.name == name), "")
    args = [
        {
            "name": each.name,
            **present({"description": each.description, "value": _value(conversion, each.name)}),
            "location": location(each.mark.lines),
        }
        for each in document.arguments.values()
    ]
    secrets, agents = _secrets(stages, document), _agents(stages)
    tests = [
        {"name": test.name, "stage": stage.name, "location": location(test.mark.lines)}
        for stage in conversion.targets
        for test in stage.tests
    ]
    answered = present(
        {
            "name": name,
            "description": about,
            "args": args,
            "secrets": secrets,
            "ssh": agents,
            "tests": tests,
            "sources": [source_text(context.file)],
        }
    )
    return answer(answered, _outline_text(conversion, about, secrets, agents, tests), _VERSION)


def _value(conversion: Conversion, name: str) -> str:
    declared = conversion.document.arguments[name]
    if declared.is_required and name not in conversion.context.options.build_args:
        return ""  # a placeholder
    scope = conversion.catalog.scopes[conversion.document]
    return text(scope.groups["args"].find(name))


def _secrets(stages: Sequence[m.Stage], document: Document) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    declared = document.secrets or {}
    for step in (step for stage in stages for step in stage.steps):
        for secret in step.process.secrets if isinstance(step, m.Run | m.Exec) else ():
            mark = declared[secret.id].mark if secret.id in declared else step.place.mark
            entry = found.setdefault(secret.id, {"name": secret.id})
            if not secret.is_optional:
                entry["required"] = True
            entry["location"] = location(mark.lines)
    return list(found.values())


def _agents(stages: Sequence[m.Stage]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for step in (step for stage in stages for step in stage.steps):
        for agent in step.process.agents if isinstance(step, m.Run | m.Exec) else ():
            entry = found.setdefault(agent.id, {"name": agent.id})
            if not agent.is_optional:
                entry["required"] = True
            entry["location"] = location(step.place.mark.lines)
    return list(found.values())


def _outline_text(
    conversion: Conversion,
    about: str,
    secrets: Sequence[dict[str, Any]],
    agents: Sequence[dict[str, Any]],
    tests: Sequence[dict[str, Any]],
) -> str:
    head = [("TARGET:", conversion.target)]
    head += [("DESCRIPTION:", about)] if about else []
    parts = [table(head)]
    if declared := conversion.document.arguments:
        rows = [("BUILD ARG", "VALUE", "DESCRIPTION")]
        rows += [(n, _value(conversion, n), each.description) for n, each in declared.items()]
        parts.append(table(rows, gap=3))
    for title, mounts in (("SECRET", secrets), ("SSH", agents)):
        if mounts:
            uses = [(each["name"], "true" if each.get("required") else "") for each in mounts]
            parts.append(table([(title, "REQUIRED"), *uses], gap=3))
    if tests:
        rows_ = [(each["name"], each["stage"]) for each in tests]
        parts.append(table([("TEST", "STAGE"), *rows_], gap=3))
    return "".join(f"{part}\n" for part in parts)


async def _lint(context: BuildContext) -> Result:
    findings: list[Finding] = []
    failure: ToranaError | None = None
    try:
        conversion = await _conversion(context)
        conversion.plan(all_stages=not context.options.target, is_question=True)
        findings = lint(conversion.document, conversion.stages)
    except ToranaError as err:
        failure = err
    answered: dict[str, Any] = {
        "warnings": [_finding(each) for each in findings] or None,
        "sources": [lint_source(context.file)],
    }
    if failure is not None:
        answered["buildError"] = build_error(failure)
    code = b"1" if findings or failure is not None else b"0"
    shown = "".join(_finding_text(each) for each in findings)
    return answer(answered, shown, _VERSION, {"result.statuscode": code})


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "ruleName": finding.rule.name,
        "description": finding.rule.description,
        "detail": finding.message,
        "location": location(finding.ranges),
    }


def _finding_text(finding: Finding) -> str:
    excerpt = render_excerpt(finding.mark.file.excerpt(finding.ranges))
    return f"\nWARNING: {finding.rule.name}\n{finding.message}\n{excerpt}"


async def _convert(context: BuildContext) -> Result:
    """Give the LLB of the target as JSON, ops by digest."""
    conversion = await _conversion(context)
    conversion.plan()
    await conversion.resolve()
    definition = conversion.marshal(conversion.emit().tree)
    return answer(converted(definition, context.file), None, _CONVERT_VERSION)


async def _lock(context: BuildContext) -> Result:
    """Give the text of the lock file: what is pinned stays, unless an update is asked for."""
    renews = bool(parse_bool(context.client.options.get(UPDATE, "") or "false"))
    present_ = await read_lock(context)
    images = {} if renews else dict(present_.images)
    loader = Loader(context, Lock())
    document = await loader.load()
    found: dict[str, str] = {}
    for platform in platforms(context, document):
        conversion = Conversion(
            context=context, document=document, platform=platform, locked=images
        )
        conversion.plan(all_stages=True)
        await conversion.resolve()
        found |= conversion.pins
    lock = Lock(images=found, includes=loader.pins)
    data = lock.encode()
    rows = [("PINNED", "TO"), *sorted({**found, **loader.pins}.items())]
    name = lock_name(context.file.filename)
    return answer({"name": name, "lock": data.decode()}, table(rows), _VERSION)
