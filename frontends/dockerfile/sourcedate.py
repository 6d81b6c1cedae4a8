"""SOURCE_DATE_EPOCH: a number, or where to take one from.

Spec: conversion reference, section 10.
"""

from __future__ import annotations

import re
from typing import Final

from torana.core.errors import BuildFileError, UserError
from torana.frontends.dockerfile.arguments import Environment
from torana.frontends.dockerfile.expansion import Expander
from torana.frontends.dockerfile.globals import GlobalArgs
from torana.frontends.dockerfile.instructions import Add, Arg, StageText
from torana.frontends.dockerfile.planning import Plan
from torana.frontends.kit.context import BuildContext
from torana.frontends.kit.diagnostics import located
from torana.frontends.kit.epoch import main_epoch, url_epoch
from torana.frontends.kit.gitref import parse_git_ref

_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,18}")
_STAGE: Final = "SOURCE_DATE_EPOCH stage "


class InvalidEpochError(UserError):
    """Neither a number nor something that has a time."""

    code = "EPOCH_INVALID"


def rfc3339(seconds: int) -> str:
    """Write a time as image configs have it."""
    import datetime

    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


async def resolve_epoch(
    text: str, context: BuildContext, plan: Plan, args: GlobalArgs, expander: Expander
) -> int | None:
    """Give the seconds that `text` stands for; None where nothing has a time.

    Raises:
        InvalidEpochError: it stands for nothing.
        BuildFileError: a stage of that name does more than fetch one thing.
    """
    if _NUMBER.fullmatch(text):
        return int(text)
    if text == "context":
        return await main_epoch(context)
    stage = next((s for s in reversed(plan.stages) if s.head.name == text.lower()), None)
    if stage is not None:
        with located(context.file, stage.head.ranges):
            url = _only_source(stage, context, args, expander)
        return await url_epoch(context, url)
    named = await context.named(text, None)
    if named is not None:
        return await url_epoch(context, named.source_url) if named.source_url else None
    raise InvalidEpochError(f"invalid SOURCE_DATE_EPOCH: {text}")


def _only_source(
    stage: StageText, context: BuildContext, args: GlobalArgs, expander: Expander
) -> str:
    """Give the one remote source of a stage that is never built."""
    if expander.expand(stage.head.base, args.values).text != "scratch":
        raise BuildFileError(f"{_STAGE}must use FROM scratch")
    environment = Environment()
    adds: list[Add] = []
    for instruction in stage.body:
        if isinstance(instruction, Arg):
            _declare(instruction, environment, context, args, expander)
        elif isinstance(instruction, Add):
            adds.append(instruction)
        else:
            raise BuildFileError(
                f"{_STAGE}does not meet source-only requirements: unsupported "
                f"{instruction.word.upper()} instruction"
            )
    if len(adds) != 1:
        raise BuildFileError(f"{_STAGE}must contain exactly one remote ADD")
    if len(adds[0].sources) + len(adds[0].heredocs) != 1:
        raise BuildFileError(f"{_STAGE}must contain exactly one remote ADD source")
    url = expander.expand(adds[0].sources[0], environment).text if adds[0].sources else ""
    if not url.startswith(("http://", "https://")) and parse_git_ref(url) is None:
        raise BuildFileError(f"{_STAGE}source must be a single HTTP(S) or Git ADD")
    return url


def _declare(
    instruction: Arg,
    environment: Environment,
    context: BuildContext,
    args: GlobalArgs,
    expander: Expander,
) -> None:
    for arg in instruction.args:
        value = context.options.build_args.get(arg.name)
        if value is None and arg.value is not None:
            value = expander.expand(arg.value, environment).text
        if value is None:
            value = args.values.get(arg.name)
        if value is not None:
            environment.set(arg.name, value)
