"""Lint rules: what builds, but should be written otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from torana.core.oci.reference import InvalidReferenceError, parse_reference
from torana.core.records import dataclass
from torana.frontends.kit.lint import Linter, Rule
from torana.frontends.kit.yamltree import Items, Mark, Node, Scalar, Table
from torana.frontends.yaml import fields
from torana.frontends.yaml import model as m
from torana.frontends.yaml.document import Document
from torana.frontends.yaml.scope import pieces

IN_SCRIPT: Final = Rule(
    "ExpressionInScript",
    "Values of arguments and inputs become part of a script: give them to it with `env`",
)
UNPINNED: Final = Rule("UnpinnedDownload", "A download without a checksum can change any time")
NO_TAG: Final = Rule("ImageWithoutTag", "An image without tag or digest is whatever is latest")
UNUSED: Final = Rule("UnusedTemplate", "A template that no step uses")


@dataclass(frozen=True, slots=True)
class _Found:
    """A rule that something breaks, and where."""

    rule: Rule
    message: str
    mark: Mark


def lint(document: Document, stages: Sequence[m.Stage], linter: Linter) -> None:
    """Look at a file and its stages, and report findings in the order of the file."""
    found = [*_lint_text(document), *_lint_stages(stages, document)]
    for each in sorted(found, key=lambda e: (e.mark.line, e.mark.column, e.rule.name)):
        linter.report(each.rule, each.message, each.mark.lines, file=each.mark.file)


def _steps(document: Document) -> Iterator[Node]:
    for entry in document.stages.values():
        steps = entry.node.get("steps") if isinstance(entry.node, Table) else None
        yield from steps if isinstance(steps, Items) else ()
    for template in document.templates.values():
        yield from template.steps


def _lint_text(document: Document) -> Iterator[_Found]:
    used = set()
    for step in _steps(document):
        script = step.get("run") if isinstance(step, Table) else step
        if isinstance(step, Table):
            used.add(fields.text(step.get("uses")))
            if fields.flag(step.get("unpinned")):
                yield _Found(UNPINNED, "no checksum pins this download", step.key("unpinned"))
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
                yield _Found(IN_SCRIPT, f"{shown} becomes part of the script", script.mark)
    if document.stages:  # a library of templates uses none
        for name, template in document.templates.items():
            if name not in used:
                yield _Found(UNUSED, f"template `{name}` is not used", template.mark)


def _lint_stages(stages: Sequence[m.Stage], document: Document) -> Iterator[_Found]:
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
            yield _Found(NO_TAG, f"image `{origin.name}` has neither tag nor digest", mark)
