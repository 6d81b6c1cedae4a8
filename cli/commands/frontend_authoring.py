"""`torana frontend new` and `check`: for those who write frontends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from torana.cli.frontends import plugin_manager, plugin_options
from torana.core.errors import UsageError


@click.command()
@click.argument("name")
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--image", "images", multiple=True, metavar="NAME", help="An image that exists.")
@click.option(
    "--context",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    metavar="FOLDER",
    help="Files of the context.",
)
@click.option("--opt", "opts", multiple=True, metavar="KEY=VALUE", help="Option of the frontend.")
@plugin_options
def check(name: str, files: tuple[Path, ...], **options: Any) -> int:
    """Check NAME: its manifest, and what it makes of FILES and of its own example.

    Runs the conformance suite of the kit, which needs pytest, on a gateway that has the images and
    files that are named, and no engine. The frontend runs in this process: check what you trust.
    """
    from torana.cli.frontendcheck import Trial, manifest_problems, run_suite
    from torana.cli.frontendoptions import frontend_options

    for file in files:
        if not file.is_file():
            raise UsageError(f"no such file: `{file}`")
    plugins = plugin_manager(options)
    found = plugins.find_installed(name)
    problems = list(manifest_problems(found))
    for problem in problems:
        click.echo(f"{found}: {problem}", err=True)
    if found.problem:
        return 1
    trial = Trial(
        files=files,
        images=options["images"],
        context=options["context"],
        options=frontend_options({"opts": options["opts"]}),
    )
    code = run_suite(found, trial, plugins)
    return 1 if code or problems else 0


@click.command()
@click.argument("name")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
def new(name: str, folder: Path | None) -> None:
    """Begin a frontend NAME: a project with a grammar, tests and an example.  [FOLDER: ./NAME]

    It can be built with at once, and passes its own tests.
    """
    from torana.cli.scaffold import write_scaffold

    folder = folder or Path(name)
    for path in write_scaffold(name, folder):
        click.echo(path)
    click.echo(f"\nnext: cd {folder} && pip install -e '.[dev]' && pytest", err=True)
