"""`torana frontend lock`, `install` and `export-wheelhouse`: frontends from a package index."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from torana.cli.frontends import environments_folder
from torana.core.errors import NotFoundError

if TYPE_CHECKING:
    from torana.gateway.runners.lockfile import Lock

_lock_option = click.option(
    "--lock",
    "lock_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The lock file.  [torana.lock of the project]",
)


@click.command()
@click.argument("frontends", metavar="[pypi:DIST==VERSION]...", nargs=-1)
@_lock_option
def lock(frontends: Sequence[str], lock_file: Path | None) -> None:
    """Pin frontends of a package index, with all that they need, in torana.lock.

    Without arguments those that are in the file are looked up again. pip is asked, with the index
    that it is configured for; only wheels are taken.
    """
    from torana.gateway.publishing.locking import lock, parse_packaged

    found = _read(lock_file)
    wanted = [parse_packaged(text) for text in frontends]
    wanted = wanted or [(each.distribution, each.version) for each in found.frontends]
    if not wanted:
        raise NotFoundError(f"`{found.path}` has no frontends", hint="name one to add it")
    added = [lock(*each) for each in wanted]
    found.with_frontends(added).write()
    for each in added:
        click.echo(f"{each.syntax}: {_count(len(each.wheels), 'wheel')}")


@click.command()
@_lock_option
@click.option(
    "--wheelhouse",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    metavar="FOLDER",
    help="Take the wheels from here, and nothing from the network.",
)
def install(lock_file: Path | None, wheelhouse: Path | None) -> None:
    """Make an environment for each frontend of torana.lock; wheels must have the hashes in it."""
    from torana.gateway.publishing.locking import install

    for each in _needed(lock_file).frontends:
        install(each, environments_folder(), wheelhouse=wheelhouse)
        click.echo(f"{each.syntax} is installed")


@click.command("export-wheelhouse")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@_lock_option
def export_wheelhouse(folder: Path, lock_file: Path | None) -> None:
    """Save the wheels of torana.lock in FOLDER, for machines without a network."""
    from torana.gateway.publishing.locking import export_wheelhouse

    found = _needed(lock_file)
    export_wheelhouse(found.frontends, folder)
    click.echo(f"the wheels of {_count(len(found.frontends), 'frontend')} are in `{folder}`")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _read(file: Path | None) -> Lock:
    from torana.gateway.runners.lockfile import read_lock
    from torana.plugins.project import LOCK_FILENAME, find_project

    return read_lock(file or find_project(Path.cwd()).root / LOCK_FILENAME)


def _needed(file: Path | None) -> Lock:
    found = _read(file)
    if not found.frontends:
        raise NotFoundError(
            f"`{found.path}` has no frontends",
            hint="`torana frontend lock pypi:DIST==VERSION` adds one",
        )
    return found
