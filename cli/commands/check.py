"""`torana check`: look for mistakes in build files, without an engine.

Exit codes: 0 nothing found, 1 something found, 2 wrong usage.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from torana.cli.checkreport import FileReport, as_json, as_sarif, as_text, read_answer
from torana.cli.frontendoptions import frontend_options
from torana.cli.frontends import (
    default_syntax,
    frontend_rules,
    plugin_manager,
    plugin_options,
    project_of,
    syntax_option,
)
from torana.core.errors import UnsupportedError, UsageError

if TYPE_CHECKING:
    from torana.plugins.manager import PluginManager

_BUILD_FILE: Final = "Dockerfile"
_YAML_FILE: Final = "build.yaml"
_NEEDS_IMAGES: Final = "UndefinedVar"  # a variable may come from the base image
_FORMATS: Final[Mapping[str, Callable[[Sequence[FileReport]], str]]] = {
    "text": as_text,
    "json": as_json,
    "sarif": as_sarif,
}


@click.command()
@click.argument("files", metavar="[FILE]...", nargs=-1)
@click.option("--target", metavar="STAGE", help="Check this stage and what it needs.  [all]")
@click.option("--build-arg", "build_args", multiple=True, metavar="NAME[=VALUE]")
@click.option("--format", "form", type=click.Choice(list(_FORMATS)), default="text")
@click.option("--frontend", metavar="NAME", help="Frontend to ask.  [the one that would build it]")
@click.option("--opt", "opts", multiple=True, metavar="KEY=VALUE", help="Option of the frontend.")
@plugin_options
def check(files: Sequence[str], form: str, frontend: str | None, **options: Any) -> int:
    """Look for mistakes in build files; a FILE may be a folder with one in it.  [.]

    What would build a file checks it, by the rules of `torana build`. Nothing is built or fetched,
    and no image is run. What only base images can tell is left out: for that there is `torana build
    --check`. Exit code: 0 nothing found, 1 something found, 2 wrong usage.
    """
    plugins = plugin_manager(options)
    given = {**frontend_options(options), **syntax_option(options)}
    found = [
        _report(path, frontend, given, options, plugins) for path in map(_existing, files or (".",))
    ]
    reports = [report for report, _ in found]
    sys.stdout.write(_FORMATS[form](reports))
    if any(is_partial for _, is_partial in found):
        click.echo(
            f"note: {_NEEDS_IMAGES} was left out where base images were not looked at; "
            "`torana build --check` looks at them",
            err=True,
        )
    return 0 if all(report.is_clean for report in reports) else 1


def _existing(text: str) -> Path:
    path = Path(text)
    if path.is_dir():
        is_yaml = not (path / _BUILD_FILE).is_file() and (path / _YAML_FILE).is_file()
        path = path / (_YAML_FILE if is_yaml else _BUILD_FILE)
    if not path.is_file():
        raise UsageError(f"no such file: `{path}`")
    return path


def _report(
    path: Path,
    frontend: str | None,
    given: Mapping[str, str],
    options: Mapping[str, Any],
    plugins: PluginManager,
) -> tuple[FileReport, bool]:
    """Give the report, and whether something was left out of it."""
    from torana.cli.checkclient import lint
    from torana.gateway.runners.finder import FrontendFinder

    folders = {"context": path.absolute().parent, "dockerfile": path.absolute().parent}
    project = project_of(folders)
    find_syntax = partial(default_syntax, {"filename": path.name}, folders, project, plugins)
    finder = FrontendFinder(plugins, rules=frontend_rules(options, folders, project))
    answer, needs_images = asyncio.run(lint(path, frontend, given, find_syntax, finder))
    if answer is None:
        raise UnsupportedError(f"this frontend cannot check its files: `{path}`")
    document = json.loads(answer)
    warnings = document.get("warnings") or []
    if needs_images:
        document["warnings"] = [w for w in warnings if w["ruleName"] != _NEEDS_IMAGES]
    report = read_answer(str(path), path.read_bytes(), document)
    return report, len(report.violations) != len(warnings)
