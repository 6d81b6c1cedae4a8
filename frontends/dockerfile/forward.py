"""Handing a build to the frontend that the file or the user asks for.

Spec: conversion reference, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from torana.core.errors import ToranaError
from torana.frontends.dockerfile.syntax import find_syntax
from torana.frontends.kit.context import BuildContext
from torana.frontends.kit.diagnostics import attach, line_ranges
from torana.frontends.kit.subrequests import UnsupportedFrontendCapError
from torana.gateway.client.client import Result, SolveRequest

_CAPS: Final = frozenset(
    f"moby.buildkit.frontend.{name}"
    for name in ("inputs", "subrequests", "contexts", "gitquerystring")
)
_FORWARD: Final = "+forward"
_ARGUMENT: Final = "BUILDKIT_SYNTAX"


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
    argument = context.options.build_args.get(_ARGUMENT)
    found = find_syntax(context.file.data) if argument is None else None
    if found is not None:
        image, command_line = found.image, found.command_line
    elif argument is not None:
        image, command_line = argument.strip().split(" ", 1)[0], argument
    else:
        return None
    try:
        return await client.solve(
            SolveRequest(
                frontend="gateway.v0",
                frontend_opt={
                    **client.options,
                    **_doubled(context),
                    "source": image,
                    "cmdline": command_line,
                },
                frontend_inputs=await context.inputs(),
            )
        )
    except ToranaError as err:
        if err.sources:
            raise
        if found is not None:
            attach(err, context.file, line_ranges(context.file.filename, found.line))
        else:
            err.message = f"failed with build-arg:{_ARGUMENT} = {argument}: {err.message}"
            err.args = (err.message,)
        raise


def _doubled(context: BuildContext) -> dict[str, str]:
    """Give the options that build arguments stand for under their own names."""
    build_args = context.options.build_args
    found = {
        "multi-platform": build_args.get("BUILDKIT_MULTI_PLATFORM"),
        "hostname": build_args.get("BUILDKIT_SANDBOX_HOSTNAME"),
    }
    return {name: value for name, value in found.items() if value}
