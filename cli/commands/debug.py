"""`torana debug`: looking into the store and the engine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from torana.cli import memo
from torana.core.errors import UnsupportedError


@click.group()
def debug() -> None:
    """Look into Torana's store and engine."""


@debug.command("check-store")
def check_store() -> int:
    """Compare records, data and blobs; prints what does not fit and then fails."""
    from torana.core.worker import Worker

    root = Path(memo.store_root())
    if not root.exists():
        click.echo("there is no store yet")
        return 0
    worker = Worker.open(root)
    try:
        for line in worker.dropped:
            click.echo(f"dropped at start: {line}", err=True)
        findings = worker.check()
    finally:
        worker.close()
    for line in findings:
        click.echo(line)
    click.echo("the store is consistent" if not findings else f"{len(findings)} findings")
    return 1 if findings else 0


@debug.command()
def workers() -> None:
    """Show what builds use here: platform, snapshotter and container runtime, and why."""
    from torana.core.worker import Worker
    from torana.plugins.manager import PluginManager
    from torana.plugins.runtimes.choose import choose_runtime

    worker = Worker.open(Path(memo.store_root()))
    try:
        click.echo(f"Root:\t\t{worker.root}")
        click.echo(f"Platform:\t{worker.platform.format()}")
        click.echo(f"Snapshotter:\t{worker.choice.snapshotter.name} ({worker.choice.reason})")
        folder = worker.root / "executor"
        try:
            choice = asyncio.run(choose_runtime(PluginManager().runtimes(), folder))
        except UnsupportedError as err:
            click.echo(f"Runtime:\tnone ({err.message})")
            return
        click.echo(f"Runtime:\t{choice.runtime.name}")
        for name, reason in choice.refused:
            click.echo(f"\t\tnot {name}: {reason}")
    finally:
        worker.close()
