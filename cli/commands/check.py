"""`torana check`: look for mistakes in build files, without an engine.

Exit codes: 0 nothing found, 1 something found, 2 wrong usage.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from torana.cli.checkreport import FileReport, as_json, as_sarif, as_text, read_answer
from torana.cli.frontendoptions import frontend_options
from torana.core.errors import UnsupportedError, UsageError

if TYPE_CHECKING:
    from torana.plugins.manager import PluginManager

_BUILD_FILE: Final = "Dockerfile"
_YAML_FILE: Final = "build.yaml"
_DEFAULT: Final = "dockerfile.v0"
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
@click.option("--frontend", metavar="NAME", help="Frontend to ask.  [by the name of the file]")
@click.option("--opt", "opts", multiple=True, metavar="KEY=VALUE", help="Option of the frontend.")
def check(files: Sequence[str], form: str, frontend: str | None, **options: Any) -> int:
    """Look for mistakes in build files; a FILE may be a folder with one in it.  [.]

    Nothing is built or fetched. What only base images can tell is left out: for that there is
    `torana build --check`. Exit code: 0 nothing found, 1 something found, 2 wrong usage.
    """
    from torana.plugins.manager import PluginManager

    plugins = PluginManager()
    given = frontend_options(options)
    found = [
        asyncio.run(_report(plugins.frontend(frontend or _reader(path, plugins)), path, given))
        for path in map(_existing, files or (".",))
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


def _reader(path: Path, plugins: PluginManager) -> str:
    """Give the frontend that reads files of that name, by default the Dockerfile one."""
    if path.name.startswith(_BUILD_FILE):
        return _DEFAULT
    from torana.plugins.selection import by_file

    found = by_file(path.name, [each for each in plugins.frontends() if not each.problem])
    return _DEFAULT if found is None else found.qualified_name


def _existing(text: str) -> Path:
    path = Path(text)
    if path.is_dir():
        is_yaml = not (path / _BUILD_FILE).is_file() and (path / _YAML_FILE).is_file()
        path = path / (_YAML_FILE if is_yaml else _BUILD_FILE)
    if not path.is_file():
        raise UsageError(f"no such file: `{path}`")
    return path


async def _report(frontend: Any, path: Path, options: Mapping[str, str]) -> tuple[FileReport, bool]:
    """Give the report, and whether something was left out of it."""
    from torana.frontends.kit.offline import OfflineClient

    folder = path.absolute().parent
    client = OfflineClient(
        folders={"context": folder, "dockerfile": folder},
        options={
            **options,
            "filename": path.name,
            "requestid": "frontend.lint",
            "cmdline": "",  # a `# syntax=` line is not followed
        },
    )
    answer = (await frontend.build(client)).metadata.get("result.json")
    if answer is None:
        raise UnsupportedError("this frontend cannot check its files")
    document = json.loads(answer)
    warnings = document.get("warnings") or []
    if client.asked_images:
        document["warnings"] = [w for w in warnings if w["ruleName"] != _NEEDS_IMAGES]
    report = read_answer(str(path), path.read_bytes(), document)
    return report, len(report.violations) != len(warnings)
