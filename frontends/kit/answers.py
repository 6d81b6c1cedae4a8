"""Answers to subrequests, which are alike for all languages: outline, targets, lint, convertllb.

Spec: lint reference, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Final

from torana.core.errors import SourceRange, ToranaError
from torana.core.llb.definition import Definition
from torana.core.records import dataclass
from torana.frontends.kit.diagnostics import SourceFile, render_excerpt
from torana.frontends.kit.documents import (
    build_error,
    converted,
    lint_source,
    location,
    present,
    request_entry,
    source_text,
)
from torana.frontends.kit.lint import Finding
from torana.frontends.kit.lock import Lock, lock_name
from torana.frontends.kit.subrequests import DESCRIBE, answer, describe, table
from torana.gateway.client.client import Result

_VERSION: Final = "1.0.0"
_CONVERT_VERSION: Final = "0.1.0"
LOCK: Final = "frontend.lock"
_TARGET_OPTION: Final = "Target build stage"


def requests_answer(
    *, outline: str, targets: str, others: Mapping[str, str], target: str = _TARGET_OPTION
) -> Result:
    """Answer `frontend.subrequests.describe`: each request with what it gives."""
    options = [{"name": "target", "description": target}]
    entries = [
        request_entry("frontend.outline", _VERSION, outline, options),
        request_entry("frontend.targets", _VERSION, targets, []),
        *(request_entry(name, _VERSION, about, []) for name, about in others.items()),
        request_entry(DESCRIBE, _VERSION, "List available subrequest types", None),
    ]
    return describe(entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetEntry:
    """Something that a file can be built into."""

    name: str
    ranges: Sequence[SourceRange]
    is_default: bool = False
    description: str = ""
    base: str = ""
    platform: str = ""


def targets_answer(file: SourceFile, targets: Sequence[TargetEntry]) -> Result:
    """Answer `frontend.targets`."""
    entries = []
    rows = [("TARGET", "DESCRIPTION")]
    for target in targets:
        entry = {
            "name": target.name,
            "default": target.is_default,
            "description": target.description,
            "base": target.base,
            "platform": target.platform,
            "location": location(target.ranges),
        }
        entries.append(present(entry))
        shown = (target.name, "(default)" if target.is_default else "")
        rows.append((" ".join(part for part in shown if part), target.description))
    return answer({"targets": entries, "sources": [source_text(file)]}, table(rows), _VERSION)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlineEntry:
    """An argument (`value`, `description`), or a secret or an agent (`is_required`)."""

    name: str
    ranges: Sequence[SourceRange] = ()
    description: str = ""
    value: str | None = None
    is_required: bool = False

    def argument(self) -> dict[str, Any]:
        told = present({"description": self.description, "value": self.value})
        return {"name": self.name, **told, "location": location(self.ranges)}

    def mount(self) -> dict[str, Any]:
        told = {"required": True} if self.is_required else {}
        return {"name": self.name, **told, "location": location(self.ranges)}


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlineEntries:
    """What a target can be given; `tests` are pairs of an entry and the stage it belongs to."""

    name: str = ""
    description: str = ""
    args: Sequence[OutlineEntry] = ()
    secrets: Sequence[OutlineEntry] = ()
    ssh: Sequence[OutlineEntry] = ()
    tests: Sequence[tuple[OutlineEntry, str]] = field(default=())


def outline_answer(file: SourceFile, outline: OutlineEntries) -> Result:
    """Answer `frontend.outline`."""
    tests = [
        {"name": test.name, "stage": stage, "location": location(test.ranges)}
        for test, stage in outline.tests
    ]
    document = {
        "name": outline.name,
        "description": outline.description,
        "args": [entry.argument() for entry in outline.args],
        "secrets": [entry.mount() for entry in outline.secrets],
        "ssh": [entry.mount() for entry in outline.ssh],
        "tests": tests,
        "sources": [source_text(file)],
    }
    return answer(present(document), _outline_text(outline), _VERSION)


def _outline_text(outline: OutlineEntries) -> str:
    head = [("TARGET:", outline.name)] if outline.name else []
    head += [("DESCRIPTION:", outline.description)] if outline.description else []
    parts = [table(head)] if head else []
    if outline.args:
        rows = [("BUILD ARG", "VALUE", "DESCRIPTION")]
        rows += [(each.name, each.value or "", each.description) for each in outline.args]
        parts.append(table(rows, gap=3))
    for title, mounts in (("SECRET", outline.secrets), ("SSH", outline.ssh)):
        if mounts:
            uses = [(each.name, "true" if each.is_required else "") for each in mounts]
            parts.append(table([(title, "REQUIRED"), *uses], gap=3))
    if outline.tests:
        named = [(test.name, stage) for test, stage in outline.tests]
        parts.append(table([("TEST", "STAGE"), *named], gap=3))
    return "".join(f"{part}\n" for part in parts)


def lint_answer(
    file: SourceFile, findings: Sequence[Finding], failure: ToranaError | None
) -> Result:
    """Answer `frontend.lint`; `failure` is why the file cannot be built, if so."""
    document: dict[str, Any] = {
        "warnings": [_finding(finding) for finding in findings] or None,
        "sources": [lint_source(file)],
    }
    if failure is not None:
        document["buildError"] = build_error(failure)
    code = b"1" if findings or failure is not None else b"0"
    by_line = sorted(findings, key=_first_line)
    text = "".join(_finding_text(finding, file) for finding in by_line)
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


def _first_line(finding: Finding) -> int:
    return finding.ranges[0].start.line if finding.ranges else 0


def _finding_text(finding: Finding, main: SourceFile) -> str:
    url = f" - {finding.rule.url}" if finding.rule.url else ""
    excerpt = render_excerpt((finding.file or main).excerpt(finding.ranges))
    return f"\nWARNING: {finding.rule.name}{url}\n{finding.message}\n{excerpt}"


def convert_answer(file: SourceFile, definition: Definition) -> Result:
    """Answer `frontend.convertllb`: LLB as JSON, ops by digest."""
    return answer(converted(definition, file), None, _CONVERT_VERSION)


def lock_answer(file: SourceFile, lock: Lock) -> Result:
    """Answer `frontend.lock`: the name and the text of the lock file."""
    document = {"name": lock_name(file.filename), "lock": lock.encode().decode()}
    rows = [("PINNED", "TO"), *sorted({**lock.images, **lock.includes}.items())]
    return answer(document, table(rows), _VERSION)
