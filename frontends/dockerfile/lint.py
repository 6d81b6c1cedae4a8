"""Lint rules of Dockerfiles and `Linter`, which collects what they find.

The places that know a fact report it (`linter.report(RULE, ...)`); this module knows the rules'
names and texts, and which of them are switched on where.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from torana.core.errors import SourceRange, UserError
from torana.frontends.kit.values import parse_bool

_URL: Final = "https://docs.docker.com/go/dockerfile/rule/{}/"
_COMMENT: Final = re.compile(r"check\s*=\s*(\S+)", re.IGNORECASE)


class InvalidCheckError(UserError):
    """Lint options are malformed."""

    code = "CHECK_INVALID"


class LintError(UserError):
    """`error=true` was asked for, and something was found."""

    code = "LINT"


@dataclass(frozen=True, slots=True)
class Rule:
    """A lint rule; `slug` is the last part of its page's address, empty without one."""

    name: str
    slug: str
    description: str
    is_experimental: bool = False

    @property
    def url(self) -> str:
        return _URL.format(self.slug) if self.slug else ""


STAGE_NAME_CASING: Final = Rule(
    "StageNameCasing", "stage-name-casing", "Stage names should be lowercase"
)
FROM_AS_CASING: Final = Rule(
    "FromAsCasing",
    "from-as-casing",
    "The 'as' keyword should match the case of the 'from' keyword",
)
NO_EMPTY_CONTINUATION: Final = Rule(
    "NoEmptyContinuation",
    "no-empty-continuation",
    "Empty continuation lines will become errors in a future release",
)
CONSISTENT_INSTRUCTION_CASING: Final = Rule(
    "ConsistentInstructionCasing",
    "consistent-instruction-casing",
    "All commands within the Dockerfile should use the same casing (either upper or lower)",
)
DUPLICATE_STAGE_NAME: Final = Rule(
    "DuplicateStageName", "duplicate-stage-name", "Stage names should be unique"
)
RESERVED_STAGE_NAME: Final = Rule(
    "ReservedStageName",
    "reserved-stage-name",
    "Reserved words should not be used as stage names",
)
JSON_ARGS_RECOMMENDED: Final = Rule(
    "JSONArgsRecommended",
    "json-args-recommended",
    "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to "
    "OS signals",
)
MAINTAINER_DEPRECATED: Final = Rule(
    "MaintainerDeprecated",
    "maintainer-deprecated",
    "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
)
UNDEFINED_ARG_IN_FROM: Final = Rule(
    "UndefinedArgInFrom", "undefined-arg-in-from", "FROM command must use declared ARGs"
)
INVALID_DEFAULT_ARG_IN_FROM: Final = Rule(
    "InvalidDefaultArgInFrom",
    "invalid-default-arg-in-from",
    "Default value for global ARG results in an empty or invalid base image name",
)
REDUNDANT_TARGET_PLATFORM: Final = Rule(
    "RedundantTargetPlatform",
    "redundant-target-platform",
    "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default "
    "behavior",
)
FROM_PLATFORM_FLAG_CONST_DISALLOWED: Final = Rule(
    "FromPlatformFlagConstDisallowed",
    "from-platform-flag-const-disallowed",
    "FROM --platform flag should not use a constant value",
)
WORKDIR_RELATIVE_PATH: Final = Rule(
    "WorkdirRelativePath",
    "workdir-relative-path",
    "Relative workdir without an absolute workdir declared within the build can have unexpected "
    "results if the base image changes",
)
UNDEFINED_VAR: Final = Rule(
    "UndefinedVar", "undefined-var", "Variables should be defined before their use"
)
MULTIPLE_INSTRUCTIONS_DISALLOWED: Final = Rule(
    "MultipleInstructionsDisallowed",
    "multiple-instructions-disallowed",
    "Multiple instructions of the same type should not be used in the same stage",
)
LEGACY_KEY_VALUE_FORMAT: Final = Rule(
    "LegacyKeyValueFormat",
    "legacy-key-value-format",
    "Legacy key/value format with whitespace separator should not be used",
)
SECRETS_USED_IN_ARG_OR_ENV: Final = Rule(
    "SecretsUsedInArgOrEnv",
    "secrets-used-in-arg-or-env",
    "Sensitive data should not be used in the ARG or ENV commands",
)
COPY_IGNORED_FILE: Final = Rule(
    "CopyIgnoredFile",
    "copy-ignored-file",
    "Attempting to Copy file that is excluded by .dockerignore",
)
EXPOSE_PROTO_CASING: Final = Rule(
    "ExposeProtoCasing",
    "expose-proto-casing",
    "Protocol in EXPOSE instruction should be lowercase",
)
EXPOSE_INVALID_FORMAT: Final = Rule(
    "ExposeInvalidFormat",
    "expose-invalid-format",
    "IP address and host-port mapping should not be used in EXPOSE instruction. This will become "
    "an error in a future release",
)
INVALID_BASE_IMAGE_PLATFORM: Final = Rule(
    "InvalidBaseImagePlatform", "", "Base image platform does not match expected target platform"
)
INVALID_DEFINITION_DESCRIPTION: Final = Rule(
    "InvalidDefinitionDescription",
    "invalid-definition-description",
    "Comment for build stage or argument should follow the format: "
    "`# <arg/stage name> <description>`. If this is not intended to be a description comment, add "
    "an empty line or comment between the instruction and the comment.",
    is_experimental=True,
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One violation of a rule, at the lines of an instruction."""

    rule: Rule
    message: str
    ranges: tuple[SourceRange, ...]

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
    ) -> None:
        """Add a finding unless the rule is off, here (`comments`) or everywhere."""
        if self.is_active and self.config.with_comments(comments).allows(rule):
            self.findings.append(Finding(rule, message, tuple(ranges)))

    def check(self) -> None:
        """Fail if that was asked for.

        Raises:
            LintError: something was found and the options say `error=true`.
        """
        if self.config.fails and self.findings:
            names = dict.fromkeys(finding.rule.name for finding in self.findings)
            raise LintError(f"lint violation found for rules: {', '.join(names)}")
