"""`torana frontend publish-image`, and `run`, which such an image begins with."""

from __future__ import annotations

from typing import Any

import click

from torana.cli.engines import engine_options


@click.command()
@click.argument("name")
def run(name: str) -> int:
    """Run NAME for the engine at standard input and output.

    The entry point of a frontend image; an engine starts it, BuildKit or Torana.
    """
    from torana.gateway.runners.serving import main

    return main([name])


@click.command("publish-image")
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
@click.option("--push", "is_pushed", is_flag=True, help="Push the image to where its names say.")
@click.option("--load", "is_loaded", is_flag=True, help="Load the image into a Docker daemon.")
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
