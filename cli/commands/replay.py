"""`torana replay`: a frontend again, offline, against what was recorded."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from torana.gateway.recording.replay import Difference, Replay


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--frontend", "name", metavar="NAME", help="Frontend to run.  [the recorded one]")
def replay(file: Path, name: str | None) -> int:
    """Run the frontend of a recording (`torana build --record FILE`) with the recorded answers.

    Nothing is built and nothing is fetched. Says what the frontend does differently now, and fails
    then.
    """
    from torana.gateway.recording.recording import Recording
    from torana.gateway.recording.replay import replay as run
    from torana.plugins.manager import PluginManager

    recording = Recording.load(file)
    frontend = PluginManager().frontend(name or recording.frontend)
    outcome = asyncio.run(run(recording, frontend))
    return report(outcome)


def report(outcome: Replay) -> int:
    """Print what came of a replay; gives the exit code."""
    recording = outcome.recording
    for difference in outcome.differences:
        click.echo(_text(difference))
    if outcome.error is not None:
        click.echo(f"it failed: {outcome.error.message}")
    verdict = "as recorded" if outcome.is_same else "not as recorded"
    click.echo(f"{outcome.calls} calls of `{recording.frontend}`: {verdict}")
    return 0 if outcome.is_same else 1


def _text(difference: Difference) -> str:
    from torana.core.llb import compare
    from torana.gateway.client.messages import definition_of

    method, recorded, replayed = difference.method, difference.recorded, difference.replayed
    if replayed is None:
        return f"- {method} {_subject(method, recorded)}".rstrip()
    if recorded is None:
        return f"+ {method} {_subject(method, replayed)}".rstrip()
    lines = [f"~ {method} {_subject(method, recorded)}".rstrip()]
    if method == "Solve":
        both = definition_of(recorded.Definition), definition_of(replayed.Definition)
        lines += [f"    {line}" for line in str(compare(*both)).splitlines()]
    else:
        lines.append(f"    now {_subject(method, replayed)}")
    return "\n".join(lines)


def _subject(method: str, request: object) -> str:
    for name in ("FilePath", "DirPath", "Path", "Frontend", "short"):
        value = getattr(request, name, "")
        if value:
            return value.decode() if isinstance(value, bytes) else str(value)
    source = getattr(request, "Source", None)
    return getattr(source, "identifier", "")
