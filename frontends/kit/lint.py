"""Lint: `Rule`, what was found (`Finding`), which rules speak (`LintConfig`), and `Linter`.

A frontend declares its rules and reports what it finds; clients get warnings, and the same findings
as the answer to `frontend.lint`.

Spec: lint reference, sections 1 to 3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Final

from torana.core.errors import SourceRange, UserError
from torana.core.records import dataclass
from torana.frontends.kit.values import parse_bool

if TYPE_CHECKING:
    from torana.frontends.kit.diagnostics import SourceFile

_COMMENT: Final = re.compile(r"check\s*=\s*(\S+)", re.IGNORECASE)


class InvalidCheckError(UserError):
    """Lint options are malformed."""

    code = "CHECK_INVALID"


class LintError(UserError):
    """`error=true` was asked for, and something was found."""

    code = "LINT"


@dataclass(frozen=True, slots=True)
class Rule:
    """A lint rule; `url` is the address of its page, empty without one."""

    name: str
    description: str
    url: str = ""
    is_experimental: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """One violation of a rule, at the lines of an instruction; `file` None: the build file."""

    rule: Rule
    message: str
    ranges: tuple[SourceRange, ...]
    file: SourceFile | None = field(default=None, hash=False)

    @property
    def short(self) -> str:
        """The one-line form: `Rule: message (line N)`."""
        line = f" (line {self.ranges[0].start.line})" if self.ranges else ""
        return f"{self.rule.name}: {self.message}{line}"


@dataclass(frozen=True, slots=True)
class LintConfig:
    """Which rules speak; `all` in a set stands for every rule."""

    skip: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    fails: bool = False

    def allows(self, rule: Rule) -> bool:
        if rule.is_experimental:
            return bool(self.experimental & {"all", rule.name})
        return not self.skip & {"all", rule.name}

    def with_comments(self, comments: Iterable[str]) -> LintConfig:
        """Add what the first `check=` comment right before an instruction says."""
        for comment in comments:
            if match := _COMMENT.match(comment):
                try:
                    extra = parse_check(match[1])
                except InvalidCheckError:
                    return self
                return LintConfig(
                    self.skip | extra.skip, self.experimental | extra.experimental, self.fails
                )
        return self


def parse_check(text: str) -> LintConfig:
    """Read the options of a `check` directive: `skip=A,B;error=true;experimental=all`.

    Raises:
        InvalidCheckError: an unknown key, no `=`, or a bad boolean.
    """
    sets: dict[str, frozenset[str]] = {}
    fails = False
    for part in text.split(";", 2) if text else ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or key not in ("skip", "error", "experimental"):
            raise InvalidCheckError(f'invalid check option "{key}"')
        if key != "error":
            sets[key] = frozenset(name.strip() for name in value.split(","))
            continue
        wanted = parse_bool(value)
        if wanted is None:
            raise InvalidCheckError(
                f'failed to parse check option "{part.strip()}": '
                f'strconv.ParseBool: parsing "{value}": invalid syntax'
            )
        fails = wanted
    return LintConfig(sets.get("skip", frozenset()), sets.get("experimental", frozenset()), fails)


@dataclass(slots=True)
class Linter:
    """Collects findings in the order in which they are reported; silent unless `is_active`."""

    config: LintConfig = field(default_factory=LintConfig)
    is_active: bool = True
    findings: list[Finding] = field(default_factory=list)

    def report(
        self,
        rule: Rule,
        message: str,
        ranges: Sequence[SourceRange] = (),
        comments: Iterable[str] = (),
        file: SourceFile | None = None,
    ) -> None:
        """Add a finding unless the rule is off, here (`comments`) or everywhere."""
        if self.is_active and self.config.with_comments(comments).allows(rule):
            self.findings.append(Finding(rule, message, tuple(ranges), file))

    def check(self) -> None:
        """Fail if that was asked for.

        Raises:
            LintError: something was found and the options say `error=true`.
        """
        if self.config.fails and self.findings:
            names = dict.fromkeys(finding.rule.name for finding in self.findings)
            raise LintError(f"lint violation found for rules: {', '.join(names)}")
