"""Handing a build to the frontend that the file or the user asks for.

Spec: conversion reference, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from torana.core.errors import ToranaError
from torana.core.llb.definition import Definition
from torana.core.records import dataclass
from torana.frontends.kit.context import BuildContext
from torana.frontends.kit.diagnostics import SourceFile, attach, line_ranges
from torana.frontends.kit.subrequests import UnsupportedFrontendCapError
from torana.frontends.kit.syntax import Syntax, find_any_syntax
from torana.gateway.client.client import Client, Result, SolveRequest

_CAPS: Final = frozenset(
    f"moby.buildkit.frontend.{name}"
    for name in ("inputs", "subrequests", "contexts", "gitquerystring")
)
_FORWARD: Final = "+forward"
_ARGUMENT: Final = "BUILDKIT_SYNTAX"
FROM_USER: Final = -1  # as a line: BuildKit gives 0 to JSON documents


@dataclass(frozen=True, slots=True)
class LateCaps:
    """Capabilities that are only needed if the build is not handed on."""

    missing: tuple[str, ...]

    def check(self) -> None:
        """Refuse the build if one is missing."""
        for name in reversed(self.missing):
            raise UnsupportedFrontendCapError(name)


def required_caps(options: Mapping[str, str]) -> LateCaps:
    """Check what the client needs of a frontend.

    Raises:
        UnsupportedFrontendCapError: something unknown, and not only for later.
    """
    late = []
    text = options.get("frontend.caps", "")
    for name in text.split(",") if text else ():
        base = name.partition("+")[0]
        if base in _CAPS:
            continue
        if _FORWARD not in name:
            raise UnsupportedFrontendCapError(base)
        late.append(base)
    return LateCaps(tuple(late))


async def forward(context: BuildContext) -> Result | None:
    """Hand the build on if it names another frontend; None if it stays here."""
    client = context.client
    if "cmdline" in client.options:
        return None
    wanted = wanted_syntax(context.options.build_args, context.file)
    if wanted is None:
        return None
    inputs = await context.inputs()
    return await hand_on(client, wanted, context.options.build_args, inputs, context.file)


def wanted_syntax(build_args: Mapping[str, str], file: SourceFile) -> Syntax | None:
    """Give what the user, else the build file, asks for; the user's has line -1."""
    argument = build_args.get(_ARGUMENT)
    if argument is None:
        return find_any_syntax(file.data)
    return Syntax(argument.strip().split(" ", 1)[0], argument, FROM_USER)


async def hand_on(
    client: Client,
    wanted: Syntax,
    build_args: Mapping[str, str],
    inputs: Mapping[str, Definition],
    file: SourceFile,
) -> Result:
    """Build by the frontend that is wanted, with the options of `client`.

    Raises:
        ToranaError: what that returned; without a place of its own it gets that of the line.
    """
    try:
        return await client.solve(
            SolveRequest(
                frontend="gateway.v0",
                frontend_opt={
                    **client.options,
                    **_doubled(build_args),
                    "source": wanted.image,
                    "cmdline": wanted.command_line,
                },
                frontend_inputs=inputs,
            )
        )
    except ToranaError as err:
        if err.sources:
            raise
        if wanted.line != FROM_USER:
            attach(err, file, line_ranges(file.filename, wanted.line))
        elif _ARGUMENT in build_args:
            text = f"failed with build-arg:{_ARGUMENT} = {wanted.command_line}"
            err.message = f"{text}: {err.message}"
            err.args = (err.message,)
        raise


def _doubled(build_args: Mapping[str, str]) -> dict[str, str]:
    """Give the options that build arguments stand for under their own names."""
    found = {
        "multi-platform": build_args.get("BUILDKIT_MULTI_PLATFORM"),
        "hostname": build_args.get("BUILDKIT_SANDBOX_HOSTNAME"),
    }
    return {name: value for name, value in found.items() if value}
