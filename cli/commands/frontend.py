"""`torana frontend`: running a frontend for an engine that is somewhere else."""

from __future__ import annotations

import click


@click.group()
def frontend() -> None:
    """Run a frontend on its own."""


@frontend.command()
@click.argument("name")
def run(name: str) -> int:
    """Run NAME for the engine at standard input and output.

    The entry point of a frontend image; an engine starts it, BuildKit or Torana.
    """
    from torana.gateway.runners.serving import main

    return main([name])
