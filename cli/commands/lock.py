"""`torana lock` and `torana update`: the lock file of a build file."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from torana.cli import progress
from torana.cli.commands.build import make_request
from torana.cli.contexts import scratch_folder
from torana.cli.engines import engine_options, open_engine
from torana.core.errors import UnsupportedError, UnwritableError, UsageError

_REQUEST: Final = "frontend.lock"
Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS: Final = (
    click.argument("path", required=False),
    click.option("-f", "--file", "file", metavar="FILE", help="The build file.  [PATH/build.yaml]"),
    click.option("--build-arg", "build_args", multiple=True, metavar="NAME[=VALUE]"),
    click.option("--platform", multiple=True, metavar="PLATFORM[,...]"),
    click.option("--frontend", metavar="NAME", help="Frontend to run.  [by the file]"),
    click.option("--local", "locals_", multiple=True, metavar="NAME=FOLDER"),
    click.option(
        "--opt", "opts", multiple=True, metavar="KEY=VALUE", help="Option of the frontend."
    ),
)


def _options(command: Command) -> Command:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command()
@_options
@engine_options
def lock(path: str | None, **options: Any) -> int:
    """Pin what the build file of PATH names: images to digests, includes to checksums.

    What the lock file has already stays as it is. `torana build --locked` uses nothing else.
    """
    return _write(path, options, is_update=False)


@click.command()
@_options
@engine_options
def update(path: str | None, **options: Any) -> int:
    """Look up anew all that the lock file of PATH pins."""
    return _write(path, options, is_update=True)


def _write(path: str | None, options: dict[str, Any], *, is_update: bool) -> int:
    with scratch_folder(path, options["file"]) as scratch:
        request = make_request(path, options, scratch)
        folder = request.local_dirs.get("dockerfile")
        if folder is None or scratch in (folder, *folder.parents):
            raise UsageError("a lock file lies beside a build file: PATH must be a folder")
        asked = {"requestid": _REQUEST, "lock-update": str(is_update).lower()}

        async def ask() -> Any:
            from dataclasses import replace

            async with open_engine(options) as engine:
                wanted = replace(request, options={**request.options, **asked})
                return await engine.ask(wanted, progress.open_display("quiet"))

        try:
            answer = asyncio.run(ask())
        except UnsupportedError as err:
            if err.code != "SUBREQUEST_UNSUPPORTED":
                raise
            raise UnsupportedError(
                "this build file has no lock file",
                hint="files of frontends that answer `frontend.lock` have: `build.yaml`, the kit's",
            ) from err
    document = json.loads(answer["result.json"])
    target = folder / document["name"]
    before = target.read_text() if target.is_file() else ""
    if before != document["lock"]:
        _replace(target, document["lock"])
    sys.stdout.write(answer["result.txt"].decode())
    state = "is as it was" if before == document["lock"] else "is written"
    sys.stderr.write(f"{os.path.relpath(target)} {state}\n")
    return 0


def _replace(target: Path, text: str) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        temporary.write_text(text)
        temporary.replace(target)
    except OSError as err:
        temporary.unlink(missing_ok=True)
        raise UnwritableError(str(target), err) from err
