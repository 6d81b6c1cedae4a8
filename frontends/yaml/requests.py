"""Answers to subrequests: outline, targets, lint, describe, convertllb, and the lock file."""

from __future__ import annotations

from collections.abc import Sequence

from torana.core.errors import ToranaError
from torana.frontends.kit.answers import (
    LOCK,
    OutlineEntries,
    OutlineEntry,
    TargetEntry,
    convert_answer,
    lint_answer,
    lock_answer,
    outline_answer,
    requests_answer,
    targets_answer,
)
from torana.frontends.kit.context import BuildContext
from torana.frontends.kit.findings import lint_config
from torana.frontends.kit.lint import Linter
from torana.frontends.kit.lock import Lock, Pins, is_update, read_lock
from torana.frontends.kit.subrequests import UnsupportedRequestError
from torana.frontends.kit.yamltree import Mark, Table
from torana.frontends.yaml import fields
from torana.frontends.yaml import model as m
from torana.frontends.yaml.catalog import Catalog
from torana.frontends.yaml.conversion import Conversion, surroundings
from torana.frontends.yaml.document import Document
from torana.frontends.yaml.expressions.values import text
from torana.frontends.yaml.includes import Loader, open_document
from torana.frontends.yaml.lint import lint
from torana.frontends.yaml.platforms import platforms
from torana.gateway.client.client import Result


async def answer_request(name: str, context: BuildContext) -> Result:
    """Answer the subrequest `name`.

    Raises:
        UnsupportedRequestError: there is none of that name.
    """
    match name:
        case "frontend.subrequests.describe":
            return requests_answer(
                outline="List arguments, secrets and tests of a target",
                targets="List stages, variants and groups",
                others={"frontend.lint": "Check the build file", LOCK: "Pin images and includes"},
                target="Stage, variant or group",
            )
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
    await context.epoch()
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
    entries: list[TargetEntry] = []

    def add(name: str, mark: Mark, node: Table | None, about: str) -> None:
        entry = TargetEntry(
            name=name,
            ranges=mark.lines,
            is_default=name == default,
            description=about,
            base=fields.text(node.get("from")) if node is not None else "",
            platform=fields.text(node.get("platform")) if node is not None else "",
        )
        entries.append(entry)

    for name, stage in catalog.stages.items():
        if not stage.group and not stage.is_left_out:
            add(name, stage.mark, stage.node, fields.text(stage.node.get("description")))
    for name, group in catalog.groups.items():
        about = _group_text(catalog, name, len(group.members))
        add(name, group.mark, None, about)
        for member in group.members:
            node = catalog.stages[member].node
            add(member, group.mark, node, fields.text(node.get("description")))
    return targets_answer(context.file, entries)


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
    outline = OutlineEntries(
        name=name,
        description=about,
        args=[
            OutlineEntry(
                name=each.name,
                ranges=each.mark.lines,
                description=each.description,
                value=_value(conversion, each.name),
            )
            for each in document.arguments.values()
        ],
        secrets=_secrets(stages, document),
        ssh=_agents(stages),
        tests=[
            (OutlineEntry(name=test.name, ranges=test.mark.lines), stage.name)
            for stage in conversion.targets
            for test in stage.tests
        ],
    )
    return outline_answer(context.file, outline)


def _value(conversion: Conversion, name: str) -> str:
    declared = conversion.document.arguments[name]
    if declared.is_required and name not in conversion.context.options.build_args:
        return ""  # a placeholder
    scope = conversion.catalog.scopes[conversion.document]
    return text(scope.groups["args"].find(name))


def _secrets(stages: Sequence[m.Stage], document: Document) -> list[OutlineEntry]:
    declared = document.secrets or {}
    uses = [
        (secret, declared[secret.id].mark if secret.id in declared else step.place.mark)
        for step in _processes(stages)
        for secret in step.process.secrets
    ]
    return _mounts(uses)


def _agents(stages: Sequence[m.Stage]) -> list[OutlineEntry]:
    steps = _processes(stages)
    return _mounts([(agent, step.place.mark) for step in steps for agent in step.process.agents])


def _processes(stages: Sequence[m.Stage]) -> list[m.Run | m.Exec]:
    steps = (step for stage in stages for step in stage.steps)
    return [step for step in steps if isinstance(step, m.Run | m.Exec)]


def _mounts(uses: Sequence[tuple[m.SecretMount | m.SshMount, Mark]]) -> list[OutlineEntry]:
    """Give each once, at its last place; one that any step needs is required."""
    found: dict[str, OutlineEntry] = {}
    for each, mark in uses:
        known = found.get(each.id)
        needed = not each.is_optional or (known is not None and known.is_required)
        found[each.id] = OutlineEntry(name=each.id, ranges=mark.lines, is_required=needed)
    return list(found.values())


async def _lint(context: BuildContext) -> Result:
    linter = Linter()
    failure: ToranaError | None = None
    try:
        linter.config = lint_config(context)
        conversion = await _conversion(context)
        conversion.plan(all_stages=not context.options.target, is_question=True)
        lint(conversion.document, conversion.stages, linter)
    except ToranaError as err:
        failure = err
    return lint_answer(context.file, linter.findings, failure)


async def _convert(context: BuildContext) -> Result:
    """Give the LLB of the target as JSON, ops by digest."""
    conversion = await _conversion(context)
    conversion.plan()
    await conversion.resolve()
    definition = conversion.marshal(conversion.emit().tree)
    return convert_answer(context.file, definition)


async def _lock(context: BuildContext) -> Result:
    """Give the text of the lock file: what is pinned stays, unless an update is asked for."""
    present = await read_lock(context)
    images = {} if is_update(context) else dict(present.images)
    loader = Loader(context, Pins())
    document = await loader.load()
    found: dict[str, str] = {}
    for platform in platforms(context, document):
        conversion = Conversion(
            context=context, document=document, platform=platform, locked=images
        )
        conversion.plan(all_stages=True)
        await conversion.resolve()
        found |= conversion.pins
    return lock_answer(context.file, Lock(images=found, includes=loader.pins.includes))
