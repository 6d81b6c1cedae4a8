"""What `torana check` found, as text, JSON or SARIF.

Spec: SARIF 2.1.0, for code scanning of hosting sites.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from torana import __version__
from torana.cli.failures import excerpt
from torana.core.errors import SourceExcerpt, SourceRange
from torana.core.records import dataclass

_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One rule that a file breaks; lines count from 1, none for the whole file."""

    rule: str
    message: str
    description: str = ""
    url: str = ""
    lines: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """The answer for one file; `error` is what would stop a build."""

    path: str
    data: bytes
    violations: Sequence[Violation] = ()
    error: Violation | None = None

    @property
    def is_clean(self) -> bool:
        return not self.violations and self.error is None


def read_answer(path: str, data: bytes, document: Mapping[str, Any]) -> FileReport:
    """Read the document that a frontend answers a lint request with."""
    failure = document.get("buildError")
    return FileReport(
        path=path,
        data=data,
        violations=[
            Violation(
                rule=entry["ruleName"],
                message=entry.get("detail", ""),
                description=entry.get("description", ""),
                url=entry.get("url", ""),
                lines=_lines(entry.get("location") or {}),
            )
            for entry in document.get("warnings") or ()
        ],
        error=None
        if failure is None
        else Violation(
            rule="error",
            message=failure["message"],
            description="The file cannot be built.",
            lines=_lines(failure.get("location") or {}),
        ),
    )


def _lines(location: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
    return tuple(
        (span["start"]["line"], span["end"]["line"]) for span in location.get("ranges") or ()
    )


def as_text(reports: Sequence[FileReport]) -> str:
    """Give one block per finding: place, rule, message, excerpt, page about the rule."""
    parts = [
        _block(report, violation, is_error=violation is report.error)
        for report in reports
        for violation in _all(report)
    ]
    count = sum(len(report.violations) for report in reports)
    failed = sum(report.error is not None for report in reports)
    words = [f"{len(reports)} file{'' if len(reports) == 1 else 's'} checked"]
    words.append("no warnings" if not count else f"{count} warning{'' if count == 1 else 's'}")
    words += [f"{failed} cannot be built"] if failed else []
    return "\n".join([*parts, ", ".join(words)]) + "\n"


def _all(report: FileReport) -> Iterable[Violation]:
    return (*report.violations, *((report.error,) if report.error is not None else ()))


def _block(report: FileReport, violation: Violation, *, is_error: bool) -> str:
    place = f"{report.path}:{violation.lines[0][0]}" if violation.lines else report.path
    head = f"{place}: {'error' if is_error else violation.rule}: {violation.message}"
    spans = tuple(SourceRange.lines(report.path, *span) for span in violation.lines)
    shown = excerpt(SourceExcerpt(report.path, report.data, spans)).split("\n")[1:]
    return "\n".join([head, *shown, *([violation.url] if violation.url else []), ""])


def as_json(reports: Sequence[FileReport]) -> str:
    """Give a list of files with their findings."""
    document = [
        {
            "file": report.path,
            "warnings": [_entry(violation) for violation in report.violations],
            **({} if report.error is None else {"error": _entry(report.error)}),
        }
        for report in reports
    ]
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _entry(violation: Violation) -> dict[str, Any]:
    found = {
        "rule": violation.rule,
        "message": violation.message,
        "description": violation.description,
        "url": violation.url,
        "lines": [list(span) for span in violation.lines],
    }
    return {key: value for key, value in found.items() if value}


def as_sarif(reports: Sequence[FileReport]) -> str:
    """Give a SARIF log with one run."""
    rules = {violation.rule: _rule(violation) for report in reports for violation in _all(report)}
    driver = {
        "name": "torana check",
        "version": __version__,
        "rules": [rules[name] for name in sorted(rules)],
    }
    results = [
        _result(report, violation, is_error=violation is report.error)
        for report in reports
        for violation in _all(report)
    ]
    log = {"$schema": _SCHEMA, "version": "2.1.0"}
    run = {"tool": {"driver": driver}, "results": results}
    return json.dumps({**log, "runs": [run]}, indent=2, ensure_ascii=False) + "\n"


def _rule(violation: Violation) -> dict[str, Any]:
    rule: dict[str, Any] = {"id": violation.rule}
    if violation.description:
        rule["shortDescription"] = {"text": violation.description}
    if violation.url:
        rule["helpUri"] = violation.url
    return rule


def _result(report: FileReport, violation: Violation, *, is_error: bool) -> dict[str, Any]:
    place: dict[str, Any] = {"artifactLocation": {"uri": report.path}}
    if violation.lines:
        place["region"] = {
            "startLine": violation.lines[0][0],
            "endLine": max(last for _, last in violation.lines),
        }
    return {
        "ruleId": violation.rule,
        "level": "error" if is_error else "warning",
        "message": {"text": violation.message},
        "locations": [{"physicalLocation": place}],
    }
