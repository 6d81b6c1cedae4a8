"""SOURCE_DATE_EPOCH by the name of a stage, which holds the source whose time it is.

Spec: conversion reference, section 10.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from torana.core.errors import BuildFileError
from torana.core.llb.state import State, http
from torana.frontends.dockerfile.arguments import Environment
from torana.frontends.dockerfile.copy import check_digest, download_name
from torana.frontends.dockerfile.expansion import Expander
from torana.frontends.dockerfile.globals import GlobalArgs
from torana.frontends.dockerfile.instructions import Add, Arg, StageText
from torana.frontends.dockerfile.planning import Plan
from torana.frontends.kit.context import BuildContext
from torana.frontends.kit.diagnostics import located
from torana.frontends.kit.epoch import EPOCH, resolve_epoch
from torana.frontends.kit.gitref import parse_git_ref
from torana.frontends.kit.sources import git_state

_STAGE: Final = "SOURCE_DATE_EPOCH stage "


async def stage_epoch(
    text: str, context: BuildContext, plan: Plan, args: GlobalArgs, expander: Expander
) -> int | None:
    """Give the seconds that `text` stands for; None where nothing has a time.

    Raises:
        InvalidEpochError: it stands for nothing.
        NamedContextError: it cannot be the name of a context.
        BuildFileError: a stage of that name does more than fetch one thing.
    """

    def stage_source(name: str) -> State | None:
        stage = next((s for s in plan.stages if s.head.name and s.head.name == name.lower()), None)
        if stage is None:
            return None
        with located(context.file, stage.head.ranges):
            return _only_source(stage, context, args, expander)

    return await resolve_epoch(text, context, stage_source)


def _only_source(
    stage: StageText, context: BuildContext, args: GlobalArgs, expander: Expander
) -> State:
    """Give the one remote source of a stage that is never built."""
    environment = Environment(args.values)
    environment.pop(EPOCH, None)
    if expander.expand(stage.head.base, environment).text != "scratch":
        raise BuildFileError(f"{_STAGE}must use FROM scratch")
    found: State | None = None
    for instruction in stage.body:
        if isinstance(instruction, Arg):
            _declare(instruction, environment, context.options.build_args, expander)
        elif not isinstance(instruction, Add):
            raise BuildFileError(
                f"{_STAGE}does not meet source-only requirements: unsupported "
                f"{instruction.word} instruction"
            )
        elif found is not None:
            raise BuildFileError(f"{_STAGE}must contain exactly one remote ADD")
        else:
            found = _source(instruction, environment, expander)
    if found is None:
        raise BuildFileError(f"{_STAGE}must contain exactly one remote ADD")
    return found


def _source(instruction: Add, environment: Environment, expander: Expander) -> State:
    if len(instruction.sources) != 1 or instruction.heredocs:
        raise BuildFileError(f"{_STAGE}must contain exactly one remote ADD source")
    text = expander.expand(instruction.sources[0], environment).text
    checksum = expander.expand(instruction.checksum, environment).text
    ref = parse_git_ref(text)
    if ref is not None and not ref.is_like_local:
        keeps = bool(instruction.keep_git_dir) or bool(ref.keep_git_dir)
        ref = replace(ref, keep_git_dir=keeps, checksum=checksum or ref.checksum)
        return git_state(replace(ref, fetch_by_commit=None, mtime=""), name="")
    if text.startswith(("http://", "https://")):
        check_digest(checksum)
        return http(text, filename=download_name(text), checksum=checksum)
    raise BuildFileError(f"{_STAGE}source must be a single HTTP(S) or Git ADD")


def _declare(
    instruction: Arg, environment: Environment, build_args: Mapping[str, str], expander: Expander
) -> None:
    for arg in instruction.args:
        if arg.name in build_args:
            environment.set(arg.name, build_args[arg.name])
        elif arg.value is not None:
            environment.set(arg.name, expander.expand(arg.value, environment).text)
