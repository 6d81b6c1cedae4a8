"""`torana llb`: the LLB of a build file, without building."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click

from torana.cli import memo
from torana.cli.commands.build import make_request
from torana.cli.frontends import plugin_manager, plugin_options
from torana.core.errors import UserError


@click.command()
@click.argument("path", required=False)
@click.option("-f", "--file", "file", metavar="FILE", help="The build file.  [PATH/Dockerfile]")
@click.option("--target", metavar="STAGE", help="Stage to translate.")
@click.option("--build-arg", "build_args", multiple=True, metavar="NAME[=VALUE]")
@click.option("--platform", multiple=True, metavar="PLATFORM[,...]")
@click.option("--format", "form", type=click.Choice(["text", "json", "dot", "pb"]), default="text")
@click.option("--frontend", metavar="NAME", help="Frontend to run.  [dockerfile.v0]")
@click.option("--local", "locals_", multiple=True, metavar="NAME=FOLDER")
@click.option("--opt", "opts", multiple=True, metavar="KEY=VALUE", help="Option of the frontend.")
@plugin_options
def llb(path: str | None, form: str, **options: Any) -> None:
    """Print what PATH is translated to: `text`, `json`, `dot` (for Graphviz) or `pb` (bytes)."""
    from torana.core.llb import Definition

    options["opts"] = (*options["opts"], "tests=none")  # of a YAML file: they would run
    request = make_request(path, options)

    async def translate() -> Definition | None:
        from torana.gateway.engines.embedded import EmbeddedEngine

        async with EmbeddedEngine.open(Path(memo.store_root()), plugin_manager(options)) as engine:
            return await engine.translate(request)

    definition = asyncio.run(translate())
    if definition is None:
        raise UserError("the result is empty (scratch): there is no LLB")
    if form == "pb":
        sys.stdout.buffer.write(definition.encode())
    else:
        from torana.core.llb import render

        sys.stdout.write(render.render(definition, form))
