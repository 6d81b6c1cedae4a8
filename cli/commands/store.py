"""`torana du` and `torana prune`: the build cache."""

from __future__ import annotations

import click

__all__ = ["du", "prune"]


@click.command()
def du() -> None:
    """Show what the build cache holds."""


@click.command()
def prune() -> None:
    """Remove build cache."""
