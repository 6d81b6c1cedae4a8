"""`torana du` and `torana prune`: the build cache."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torana.cli import memo
from torana.cli.records import as_json, header, row, summary, verbose
from torana.core.errors import UsageError

if TYPE_CHECKING:
    from torana.core.cache.policy import Disk
    from torana.core.worker import Worker

_filters = click.option(
    "-f",
    "--filter",
    "filters",
    multiple=True,
    metavar="FILTER",
    help="Only records that match, as `type==exec.cachemount` or `id~=^ab,private`; again for or.",
)
_verbose = click.option(
    "-v", "--verbose", "is_verbose", is_flag=True, help="Show everything that is known of a record."
)
_format = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json: with BuildKit's field names.",
)


@contextmanager
def open_worker() -> Iterator[Worker | None]:
    """Open the store; None when there is none yet."""
    from torana.gateway.engines.embedded import open_root

    root = Path(memo.store_root())
    if not root.exists():
        yield None
        return
    worker = open_root(root)
    try:
        for finding in worker.dropped:
            click.echo(f"dropped at start: {finding}", err=True)
        yield worker
    finally:
        worker.close()


@click.command()
@_filters
@_verbose
@_format
def du(filters: tuple[str, ...], is_verbose: bool, form: str) -> None:
    """Show what the build cache holds: records, sizes, and what could be freed."""
    from torana.core.cache.filters import parse_filters

    parse_filters(filters)  # wrong ones are wrong without a store, too
    with open_worker() as worker:
        records = [] if worker is None else worker.disk_usage(filters)
    if form == "json":
        click.echo(json.dumps([as_json(record) for record in records], indent=2))
        return
    if is_verbose:
        for record in records:
            click.echo(verbose(record))
    elif records:
        click.echo(header())
        for record in records:
            click.echo(row(record))
    click.echo(summary(records))


def _space_option(name: str, hint: str) -> Callable[[Any], Any]:
    return click.option(f"--{name}", metavar="SIZE", help=f"{hint}: 512MB, 20GB or 10%.")


@click.command()
@_filters
@click.option(
    "--keep-duration",
    default="0s",
    show_default=True,
    metavar="DURATION",
    help="Keep what was used within this time: 90s, 30m, 48h, 7d.",
)
@_space_option("reserved-space", "Never delete below this")
@_space_option("max-used-space", "Delete until the cache is smaller than this")
@_space_option("min-free-space", "Delete until as much of the disk is free")
@click.option("--all", "is_all", is_flag=True, help="Also internal, frontend and shared records.")
@_verbose
@_format
def prune(
    filters: tuple[str, ...],
    keep_duration: str,
    reserved_space: str | None,
    max_used_space: str | None,
    min_free_space: str | None,
    is_all: bool,
    is_verbose: bool,
    form: str,
) -> None:
    """Remove build cache. Named images stay, and so does what a running build uses."""
    from torana.core.cache.filters import parse_filters
    from torana.core.cache.policy import Disk, GCPolicy
    from torana.core.cache.storeroot import free_reserve
    from torana.core.cache.usage import UsageRecord

    parse_filters(filters)
    keep_duration_s = _duration_s(keep_duration)
    shown = 0

    def show(record: UsageRecord) -> None:
        nonlocal shown
        if form == "json":
            click.echo(json.dumps(as_json(record)))
        elif is_verbose:
            click.echo(verbose(record))
        else:
            if not shown:
                click.echo(header())
            click.echo(row(record))
        shown += 1

    free_reserve(Path(memo.store_root()))  # on a full disk, opening the store wants some, too
    with open_worker() as worker:
        disk = Disk(0, 0) if worker is None else Disk.of(worker.root)
        policy = GCPolicy(
            filters=filters,
            is_all=is_all,
            keep_duration_s=keep_duration_s,
            reserved_bytes=_size_bytes("reserved-space", reserved_space, disk),
            max_used_bytes=_size_bytes("max-used-space", max_used_space, disk),
            min_free_bytes=_size_bytes("min-free-space", min_free_space, disk),
        )
        deleted = [] if worker is None else worker.prune([policy], show)
    if form == "text":
        click.echo(summary(deleted, is_total_only=True))


def _duration_s(text: str) -> float:
    from torana.core.quantities import InvalidQuantityError, parse_duration_s

    try:
        return parse_duration_s(text)
    except InvalidQuantityError:
        raise UsageError(
            f"invalid --keep-duration: `{text}`", hint="for example 90s, 30m, 48h or 7d"
        ) from None


def _size_bytes(option: str, text: str | None, disk: Disk) -> int:
    from torana.core.quantities import InvalidQuantityError, parse_size

    if text is None:
        return 0
    try:
        return parse_size(text).on(disk.total_bytes)
    except InvalidQuantityError:
        raise UsageError(
            f"invalid --{option}: `{text}`", hint="for example 512MB, 20GB or 10%"
        ) from None
