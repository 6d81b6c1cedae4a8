"""`torana frontend`: the frontends that are installed, and what to do with one."""

from __future__ import annotations

import click

from torana.cli.lazygroup import Lazy, LazyGroup


def _lazy(module: str, attribute: str, summary: str) -> Lazy:
    return Lazy(f"torana.cli.commands.frontend_{module}", attribute, summary)


_COMMANDS = {
    "list": _lazy("listing", "list_", "List the frontends that are installed."),
    "show": _lazy("listing", "show", "Show where one comes from, its options, an example."),
    "new": _lazy("authoring", "new", "Begin a frontend: grammar, tests, example, CI."),
    "check": _lazy("authoring", "check", "Check a frontend by its manifest and the suite."),
    "lock": _lazy("locking", "lock", "Pin frontends of a package index in torana.lock."),
    "install": _lazy("locking", "install", "Install the frontends of torana.lock."),
    "export-wheelhouse": _lazy("locking", "export_wheelhouse", "Save the wheels of torana.lock."),
    "publish-image": _lazy("publishing", "publish_image", "Make an image that any BuildKit runs."),
    "run": _lazy(
        "publishing", "run", "Run a frontend for the engine at standard input and output."
    ),
}


@click.command(cls=LazyGroup, lazy=_COMMANDS)
def frontend() -> None:
    """List, show, begin, check, lock, install, run and publish frontends."""
