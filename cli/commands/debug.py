"""`torana debug`: looking into the store and the engine."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click

from torana.cli import memo
from torana.cli.commands import daemons


@click.group()
def debug() -> None:
    """Look into Torana's store and engine."""


@debug.command("check-store")
@click.option("--blobs", "is_verified", is_flag=True, help="Also read and hash every blob.")
def check_store(is_verified: bool) -> int:
    """Compare records, data, blobs and leases; prints what does not fit and then fails."""
    from torana.gateway.engines.embedded import open_root

    root = Path(memo.store_root())
    if not root.exists():
        click.echo("there is no store yet")
        return 0
    worker = open_root(root)
    try:
        for finding in worker.dropped:
            click.echo(f"dropped at start: {finding}", err=True)
        findings = worker.upkeep.check(is_verified=is_verified)
    finally:
        worker.close()
    for finding in findings:
        click.echo(str(finding))
    click.echo("the store is consistent" if not findings else f"{len(findings)} findings")
    return 1 if findings else 0


@debug.command("collect-garbage")
def collect_garbage() -> None:
    """Apply the rules of garbage collection now, as is done after builds."""
    from torana.gateway.engines import collection
    from torana.gateway.engines.embedded import open_root

    root = Path(memo.store_root())
    if not root.exists():
        return
    worker = open_root(root)
    try:
        deleted = collection.collect(worker)
    finally:
        worker.close()
    for record in deleted:
        click.echo(f"{record.id} {record.description}")


debug.add_command(daemons.info)
debug.add_command(daemons.histories)
debug.add_command(daemons.logs)


@debug.command()
@click.pass_context
def workers(ctx: click.Context) -> None:
    """Show what builds use here, and why; with --addr, the workers of that daemon."""
    if ctx.obj["addr"]:
        daemons.show_workers(ctx)
        return
    from torana.gateway.engines.embedded import open_root
    from torana.gateway.engines.facts import facts
    from torana.gateway.engines.network import LazyNetwork, wanted_network
    from torana.plugins.manager import PluginManager

    worker = open_root(Path(memo.store_root()))
    try:
        click.echo(f"Root:\t\t{worker.root}")
        click.echo(f"Platform:\t{worker.platform.format()}")
        network = LazyNetwork(worker.root, wanted_network(), None)
        wanted = os.environ.get("TORANA_RUNTIME", "")
        daemons.show_facts(asyncio.run(facts(worker, network, PluginManager(), runtime=wanted)))
    finally:
        worker.close()
