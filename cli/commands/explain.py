"""`torana explain`: why steps ran or were cached."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torana.cli import memo
from torana.core.errors import NotFoundError

if TYPE_CHECKING:
    from torana.gateway.explain.reasons import Explanation
    from torana.gateway.explain.record import BuildRecord

_STAGE = re.compile(r"\[(?:(?P<platform>\S+/\S+) )?(?:(?P<stage>\S+) +)?\d+/\d+\]")


@click.command()
@click.argument("step", required=False, metavar="[TARGET|STEP]")
@click.option("-C", "--context", "path", default=".", metavar="PATH", help="What was built.  [.]")
@click.option("-f", "--file", "file", metavar="FILE", help="The build file.  [PATH/Dockerfile]")
@click.option("--all", "is_all", is_flag=True, help="Explain cached steps, too.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
def explain(step: str | None, path: str, file: str | None, is_all: bool, form: str) -> int:
    """Say why steps of the last build ran or were cached, compared with the build before.

    TARGET is the name of a stage; STEP is part of a step's name (`RUN make`, `3/5`), or the
    beginning of its digest. Without either, the steps that ran are explained.
    """
    from torana.cli.contexts import read_inputs
    from torana.gateway.explain.listing import Listings
    from torana.gateway.explain.reasons import explain as reasons_of
    from torana.gateway.explain.record import BuildRecords
    from torana.gateway.explain.recorder import project_of

    inputs = read_inputs(path, file, (), None)
    root = Path(memo.store_root())
    builds = BuildRecords(root).last(project_of(inputs.options, inputs.folders))
    if not builds:
        raise NotFoundError(
            f"no build of `{path}` is remembered",
            hint="build it first; -C and -f name another folder and build file",
        )
    new, old = builds[0], builds[1] if len(builds) > 1 else None
    explained = reasons_of(new, old, Listings(root).get)
    chosen = _chosen(explained, step, is_all)
    if form == "json":
        click.echo(json.dumps(_json(new, old, chosen), indent=2, ensure_ascii=False))
        return 0
    for line in _text(new, old, explained, chosen):
        click.echo(line)
    return 0


def _chosen(
    explained: Sequence[Explanation], step: str | None, is_all: bool
) -> Sequence[Explanation]:
    from torana.gateway.explain.record import Outcome

    if step is None:
        if is_all:
            return explained
        quiet = (Outcome.CACHED, Outcome.SKIPPED)
        return [
            each
            for each in explained
            if each.step.outcome not in quiet and not (each.step.is_local and not each.step.error)
        ]
    wanted = step.lower()
    found = [each for each in explained if _stage(each.step.name) == wanted]
    if not found:
        found = [each for each in explained if wanted in each.step.name.lower()]
    if not found:
        found = [each for each in explained if each.step.digest.encoded.startswith(wanted)]
    if not found:
        names = "\n".join(f"  {each.step.name}" for each in explained)
        raise NotFoundError(
            f"the last build has no such step: `{step}`", hint=f"its steps are:\n{names}"
        )
    return found


def _stage(name: str) -> str:
    match = _STAGE.match(name)
    return (match["stage"] or "").lower() if match else ""


def _text(
    new: BuildRecord,
    old: BuildRecord | None,
    explained: Sequence[Explanation],
    chosen: Sequence[Explanation],
) -> Iterator[str]:
    before = "nothing" if old is None else f"the one {_ago(old.started)}"
    yield f"build {_ago(new.started)}, compared with {before}"
    if not chosen:
        yield "no step ran"
    for each in chosen:
        step = each.step
        took = f", {step.seconds:.1f} s" if step.seconds >= 0.05 else ""
        yield f"{step.name}: {step.outcome.value}{took}"
        for reason in each.reasons:
            yield f"    {reason}"
    others = len(explained) - len(chosen)
    if others:
        yield f"and {others} other steps; --all shows all"


def _ago(started: float) -> str:
    seconds = max(0, int(time.time() - started))
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = seconds // size
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return f"{seconds} second{'s' if seconds != 1 else ''} ago"


def _json(
    new: BuildRecord, old: BuildRecord | None, chosen: Sequence[Explanation]
) -> dict[str, Any]:
    return {
        "build": {"started": new.started, "options": dict(new.options)},
        "compared_with": None if old is None else {"started": old.started},
        "steps": [
            {
                "digest": each.step.digest,
                "name": each.step.name,
                "outcome": each.step.outcome.value,
                "seconds": round(each.step.seconds, 3),
                "reasons": list(each.reasons),
            }
            for each in chosen
        ],
    }
