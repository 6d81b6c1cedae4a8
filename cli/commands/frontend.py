"""`torana frontend`: the frontends that are installed, and running one on its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from torana.cli.commands.frontend_locking import export_wheelhouse, install, lock
from torana.cli.engines import engine_options
from torana.cli.frontends import plugin_manager, plugin_options
from torana.core.errors import UsageError


@click.group()
def frontend() -> None:
    """List, show, begin, check, lock, install, run and publish frontends."""


for _command in (lock, install, export_wheelhouse):
    frontend.add_command(_command)


@frontend.command("list")
@click.option("--json", "is_json", is_flag=True, help="Print records instead of a table.")
@plugin_options
def list_(is_json: bool, **options: Any) -> None:
    """List the frontends that are installed. None of them is imported.

    What cannot be used is marked with an exclamation mark, and explained below the table.
    """
    from torana.cli.frontendlist import as_json, as_table

    plugins = plugin_manager(options)
    form = as_json if is_json else as_table
    click.echo(form(plugins.frontends(), plugins.broken_distributions, plugins.rules), nl=False)


@frontend.command()
@click.argument("name")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of its build files.")
@click.option("--options-schema", is_flag=True, help="Print the JSON Schema of its options.")
@plugin_options
def show(name: str, schema: bool, options_schema: bool, **options: Any) -> None:
    """Show what is known of NAME: where it comes from, its options, an example.

    A frontend whose build files have no schema prints that of its options for --schema, too.
    """
    from torana.cli.frontendlist import as_page

    plugins = plugin_manager(options)
    found = plugins.find_installed(name)
    if schema and found.manifest.schema:
        from torana.plugins.packagefile import read_package_file

        click.echo(read_package_file(found, found.manifest.schema), nl=False)
        return
    if schema or options_schema:
        import json

        click.echo(json.dumps(found.manifest.options, indent=2))
        return
    click.echo(as_page(found, plugins.rules), nl=False)


@frontend.command()
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


@frontend.command()
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


@frontend.command()
@click.argument("name")
def run(name: str) -> int:
    """Run NAME for the engine at standard input and output.

    The entry point of a frontend image; an engine starts it, BuildKit or Torana.
    """
    from torana.gateway.runners.serving import main

    return main([name])


@frontend.command("publish-image")
@click.argument("name")
@click.option("-t", "--tag", "tags", multiple=True, metavar="IMAGE", help="Name of the image.")
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    metavar="type=TYPE[,dest=PATH,...]",
    help="Where the image goes: oci, docker or image.",
)
@click.option(
    "--base", metavar="IMAGE", help="Image with a Python of the same version.  [the running Python]"
)
@click.option("-q", "--quiet", is_flag=True, help="Print only the image's digest.")
@engine_options
def publish_image(name: str, **options: Any) -> int:
    """Make an image of the installed frontend NAME, which any BuildKit runs by `# syntax=IMAGE`.

    The frontend's distribution and all it requires go into it, compiled.
    """
    from torana.cli.publishing import publish

    publish(name, options)
    return 0
