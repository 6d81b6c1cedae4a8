"""Options of commands that run frontends: which may be used, and what reads which build file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from torana.core.errors import UsageError
from torana.plugins.manager import PluginManager
from torana.plugins.rules import (
    CONSENT_VARIABLE,
    CONSENTS,
    DISABLED_VARIABLE,
    TRUSTED_VARIABLE,
    PluginRules,
)

if TYPE_CHECKING:
    from pathlib import Path

    from torana.plugins.project import Project
    from torana.plugins.selection import FrontendRules

F = TypeVar("F", bound=Callable[..., Any])
_SYNTAX_ARG = "build-arg:BUILDKIT_SYNTAX"
# Names that nobody else's patterns are asked about.
_DOCKERFILES = ("Dockerfile", "dockerfile", "Containerfile")

_OPTIONS = (
    click.option(
        "--syntax",
        metavar="NAME|IMAGE",
        help="What reads the build file, whatever its `# syntax=` line says.",
    ),
    click.option(
        "--strict-syntax",
        is_flag=True,
        help="Run the image that a `# syntax=` line names, even if a plugin stands for it.",
    ),
    click.option(
        "--allow-frontend",
        "allowed_frontends",
        multiple=True,
        type=click.Choice(CONSENTS),
        help="Let a build file name frontends that are not installed: in a file of the project, "
        f"or from torana.lock.  [${CONSENT_VARIABLE}]",
    ),
    click.option(
        "--disable-plugin",
        "disabled_plugins",
        multiple=True,
        metavar="NAME",
        help=f"Leave out a plugin, or all of a distribution.  [${DISABLED_VARIABLE}]",
    ),
    click.option(
        "--trust-plugin",
        "trusted_plugins",
        multiple=True,
        metavar="NAME",
        help="Run this frontend in the process of the engine, without a sandbox.  "
        f"[${TRUSTED_VARIABLE}]",
    ),
)


def plugin_options(command: F) -> F:
    """Add the options that `plugin_manager`, `frontend_rules` and `default_syntax` read."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def plugin_manager(options: Mapping[str, Any]) -> PluginManager:
    """Make the manager that a command line asks for."""
    rules = PluginRules.from_environment().with_more(
        disabled=options.get("disabled_plugins", ()), trusted=options.get("trusted_plugins", ())
    )
    return PluginManager(rules)


def project_of(folders: Mapping[str, Path]) -> Project:
    """Find the `torana.toml` of the context, or of the folder that the user is in."""
    from pathlib import Path

    from torana.plugins.project import find_project

    return find_project(folders.get("context") or Path.cwd())


def frontend_rules(
    options: Mapping[str, Any], folders: Mapping[str, Path], project: Project
) -> FrontendRules:
    """Put together what the user and the project allow.

    Raises:
        UsageError: the variable for consents has an unknown value.
    """
    from torana.plugins.project import LOCK_FILENAME
    from torana.plugins.selection import FrontendRules

    given = [text.strip() for text in os.environ.get(CONSENT_VARIABLE, "").split(",")]
    consents = {*options.get("allowed_frontends", ()), *filter(None, given)}
    if unknown := sorted(consents - set(CONSENTS)):
        known = " and ".join(f"`{kind}`" for kind in CONSENTS)
        raise UsageError(
            f"{CONSENT_VARIABLE}: unknown value: `{unknown[0]}`", hint=f"known: {known}"
        )
    return FrontendRules(
        is_strict=bool(options.get("strict_syntax")),
        consents=frozenset(consents),
        allowed=project.allowed,
        folder=folders.get("context") or folders.get("dockerfile"),
        lock=project.root / LOCK_FILENAME,
        environments=environments_folder(),
    )


def environments_folder() -> Path:
    """Give the folder of the environments of locked frontends."""
    from pathlib import Path

    from torana.cli import memo

    return Path(memo.store_root()) / "frontends"


def syntax_option(options: Mapping[str, Any]) -> dict[str, str]:
    """Give the frontend option for `--syntax`; it is what BuildKit's clients use, too."""
    return {_SYNTAX_ARG: options["syntax"]} if options.get("syntax") else {}


def default_syntax(
    options: Mapping[str, str],
    folders: Mapping[str, Path],
    project: Project,
    plugins: PluginManager,
) -> str:
    """Give what reads a build file that names no syntax; empty for the Dockerfile frontend.

    The project's patterns come first, then those of installed frontends.

    Raises:
        FrontendConflictError: two installed frontends want the file.
    """
    name = options.get("filename", "Dockerfile")
    folder = folders.get("dockerfile")
    if project.files:
        found = project.syntax_of((folder or project.root) / name)
        if found is not None:
            return found
    base = os.path.basename(name)
    if base.startswith(_DOCKERFILES) or base.endswith(".Dockerfile"):
        return ""
    from torana.plugins.selection import by_file

    found_frontend = by_file(base, plugins.frontends())
    return "" if found_frontend is None else found_frontend.qualified_name
