"""`torana frontend list` and `show`: what is installed, from metadata alone."""

from __future__ import annotations

from typing import Any

import click

from torana.cli.frontends import plugin_manager, plugin_options


@click.command("list")
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


@click.command()
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
    click.echo(as_page(found, plugins.frontends(), plugins.rules), nl=False)
