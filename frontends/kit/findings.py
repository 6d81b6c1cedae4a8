"""Lint around a build: which rules speak, and sending what was found to the client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from torana.core.errors import ToranaError
from torana.core.oci.digest import Digest
from torana.frontends.kit.context import BuildContext
from torana.frontends.kit.lint import Finding, InvalidCheckError, LintConfig, parse_check
from torana.frontends.kit.syntax import find_check
from torana.gateway.client.client import Warning

_ARGUMENT: Final = "BUILDKIT_DOCKERFILE_CHECK"


def given_lint_config(build_args: Mapping[str, str]) -> LintConfig | None:
    """Read the build argument that replaces what the file says; None without one.

    Raises:
        InvalidCheckError: it is malformed.
    """
    given = build_args.get(_ARGUMENT)
    return None if given is None else _parsed(given, f"build-arg:{_ARGUMENT}")


def lint_config(context: BuildContext) -> LintConfig:
    """Read which rules are on, from the build argument or else from the file.

    Raises:
        InvalidCheckError: either is malformed.
    """
    given = given_lint_config(context.options.build_args)
    return _parsed(find_check(context.file.data), "check options") if given is None else given


def _parsed(text: str, where: str) -> LintConfig:
    try:
        return parse_check(text)
    except InvalidCheckError as err:
        raise InvalidCheckError(f"failed to parse {where}: {err.message}") from err


async def send_findings(context: BuildContext, findings: Sequence[Finding]) -> None:
    """Send what was found as warnings, each on the step that loads its file."""
    for finding in findings:
        file = finding.file or context.file
        definition = file.definition or context.file.definition
        if definition is None or len(definition.ops) < 2:
            continue
        try:
            await context.client.warn(
                Warning(
                    vertex=Digest.of(definition.ops[-2]),
                    short=finding.short,
                    detail=(finding.rule.description,),
                    url=finding.rule.url,
                    ranges=finding.ranges,
                    data=file.data,
                )
            )
        except ToranaError:
            return  # an engine without warnings builds all the same
