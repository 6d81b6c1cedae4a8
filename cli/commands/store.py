"""`torana du` and `torana prune`: the build cache."""

from __future__ import annotations

import re
import time
from pathlib import Path

import click

from torana.cli import memo
from torana.cli.progress.amounts import format_bytes
from torana.core.errors import UsageError

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


@click.command()
@click.option("-v", "--verbose", is_flag=True, help="Show everything that is known of a record.")
def du(verbose: bool) -> None:
    """Show what the build cache holds: id, size, last use, description."""
    from torana.core.worker import Worker

    root = Path(memo.store_root())
    if not root.exists():
        click.echo("Total:\t0B")
        return
    worker = Worker.open(root)
    try:
        usages = worker.refs.usages()
    finally:
        worker.close()
    if not verbose:
        click.echo(f"{'ID':<26}{'SIZE':>10}  {'LAST USED':<14}DESCRIPTION")
    for usage in usages:
        age = f"{_age(usage.last_used)} ago"
        if not verbose:
            size = format_bytes(usage.size_bytes)
            click.echo(f"{usage.id:<26}{size:>10}  {age:<14}{usage.description}")
            continue
        click.echo(f"ID:\t\t{usage.id}")
        if usage.parent:
            click.echo(f"Parent:\t\t{usage.parent}")
        created = time.strftime("%Y-%m-%d %H:%M:%S +0000", time.gmtime(usage.created))
        click.echo(f"Created at:\t{created}")
        click.echo(f"Mutable:\t{str(usage.is_mutable).lower()}")
        click.echo(f"Size:\t\t{format_bytes(usage.size_bytes)}")
        click.echo(f"Description:\t{usage.description}")
        click.echo(f"Usage count:\t{usage.usage_count}")
        click.echo(f"Last used:\t{age}")
        click.echo(f"Type:\t\t{usage.record_type}\n")
    click.echo(f"Total:\t{format_bytes(sum(usage.size_bytes for usage in usages))}")


def _age(moment: float) -> str:
    seconds = max(0, int(time.time() - moment))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


@click.command()
@click.option(
    "--keep-duration",
    default="0s",
    show_default=True,
    metavar="DURATION",
    help="Keep what was used within this time: 90s, 30m, 48h, 7d.",
)
def prune(keep_duration: str) -> None:
    """Remove build cache; named images stay."""
    from torana.core.worker import Worker

    match = re.fullmatch(r"(\d+)([smhd]?)", keep_duration)
    if match is None:
        raise UsageError(
            f"invalid --keep-duration: `{keep_duration}`", hint="for example 90s, 30m, 48h or 7d"
        )
    root = Path(memo.store_root())
    if not root.exists():
        click.echo("Total:\t0B")
        return
    worker = Worker.open(root)
    try:
        count, size = worker.prune(keep_duration_s=int(match[1]) * _UNITS[match[2]])
    finally:
        worker.close()
    click.echo(f"removed {count} records", err=True)
    click.echo(f"Total:\t{format_bytes(size)}")
