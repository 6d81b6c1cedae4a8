"""Findings: what builds, but should be written otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from torana.core.errors import SourceRange, ToranaError
from torana.core.oci.digest import Digest
from torana.core.oci.reference import InvalidReferenceError, parse_reference
from torana.frontends.kit.context import BuildContext
from torana.frontends.yaml import fields
from torana.frontends.yaml import model as m
from torana.frontends.yaml.document import Document
from torana.frontends.yaml.nodes import Items, Mark, Node, Scalar, Table
from torana.frontends.yaml.scope import pieces
from torana.gateway.client.client import Warning


@dataclass(frozen=True, slots=True)
class Rule:
    name: str
    description: str


IN_SCRIPT: Final = Rule(
    "ExpressionInScript",
    "Values of arguments and inputs become part of a script: give them to it with `env`",
)
UNPINNED: Final = Rule("UnpinnedDownload", "A download without a checksum can change any time")
NO_TAG: Final = Rule("ImageWithoutTag", "An image without tag or digest is whatever is latest")
UNUSED: Final = Rule("UnusedTemplate", "A template that no step uses")


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that something breaks, and where."""

    rule: Rule
    message: str
    mark: Mark

    @property
    def ranges(self) -> tuple[SourceRange, ...]:
        return self.mark.lines


def lint(document: Document, stages: list[m.Stage]) -> list[Finding]:
    """Look at a file and its stages; findings in the order of the file."""
    found = [*_lint_text(document), *_lint_stages(stages, document)]
    return sorted(found, key=lambda each: (each.mark.line, each.mark.column, each.rule.name))


def _steps(document: Document) -> Iterator[Node]:
    for entry in document.stages.values():
        steps = entry.node.get("steps") if isinstance(entry.node, Table) else None
        yield from steps if isinstance(steps, Items) else ()
    for template in document.templates.values():
        yield from template.steps


def _lint_text(document: Document) -> Iterator[Finding]:
    used = set()
    for step in _steps(document):
        script = step.get("run") if isinstance(step, Table) else step
        if isinstance(step, Table):
            used.add(fields.text(step.get("uses")))
            if fields.flag(step.get("unpinned")):
                yield Finding(UNPINNED, "no checksum pins this download", step.key("unpinned"))
        if isinstance(script, Scalar) and script.has_expressions:
            names = {
                ".".join(path)
                for part in pieces(script.text, script.mark)
                if not isinstance(part, str)
                for path in part.reads
                if path[0] in ("args", "inputs")
            }
            if names:
                shown = ", ".join(f"`{name}`" for name in sorted(names))
                yield Finding(IN_SCRIPT, f"{shown} becomes part of the script", script.mark)
    if document.stages:  # a library of templates uses none
        for name, template in document.templates.items():
            if name not in used:
                yield Finding(UNUSED, f"template `{name}` is not used", template.mark)


def _lint_stages(stages: list[m.Stage], document: Document) -> Iterator[Finding]:
    seen = set()
    for stage in stages:
        origin, mark = stage.origin, stage.origin_mark
        if origin is None or origin.kind is not m.OriginKind.IMAGE or mark.file != document.file:
            continue
        try:
            reference = parse_reference(origin.name)
        except InvalidReferenceError:
            continue
        key = (mark.line, mark.column)
        if not reference.tag and reference.digest is None and not origin.digest and key not in seen:
            seen.add(key)
            yield Finding(NO_TAG, f"image `{origin.name}` has neither tag nor digest", mark)


async def send_findings(context: BuildContext, findings: list[Finding]) -> None:
    """Send findings as warnings on the step that loads the file."""
    definition = context.file.definition
    if definition is None or len(definition.ops) < 2:
        return
    vertex = Digest.of(definition.ops[-2])
    for each in findings:
        try:
            await context.client.warn(
                Warning(
                    vertex=vertex,
                    short=f"{each.rule.name}: {each.message}",
                    detail=(each.rule.description,),
                    ranges=each.ranges,
                    data=context.file.data,
                )
            )
        except ToranaError:
            return  # an engine without warnings builds all the same
