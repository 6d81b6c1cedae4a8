"""Imports plugins, and tells of those that fail: whose they are, and on which line they failed."""

from __future__ import annotations

import importlib
import os
import traceback
from collections.abc import Sequence
from typing import Any

from torana.plugins.installed import Distribution, FoundFrontend, PluginError, unsupported_api
from torana.plugins.manifest import API
from torana.plugins.rules import PluginRules


def load_frontend(found: FoundFrontend, rules: PluginRules) -> Any:
    """Import a frontend and make its object.

    Raises:
        PluginError: it is blocked, broken, or written for another api.
    """
    check_frontend(found, rules)
    made = _load(f"frontend {found}", found.target, found.distribution)
    try:
        frontend = made() if isinstance(made, type) or not hasattr(made, "build") else made
    except Exception as err:
        raise _failed(f"frontend {found}", err, found.distribution) from err
    api = getattr(frontend, "api", found.manifest.api)
    if api != API:
        raise PluginError(
            f"frontend {found} cannot be used: {unsupported_api(api)}",
            hint=_reinstall(found.distribution),
        )
    if not callable(getattr(frontend, "build", None)):
        raise PluginError(
            f"frontend {found} is none: `{found.target}` has no `build`",
            hint="the entry point names a class or an object with `async def build(self, client)`",
        )
    return frontend


def check_frontend(found: FoundFrontend, rules: PluginRules) -> None:
    """Refuse a frontend that is blocked, or known to be broken, without importing it.

    Raises:
        PluginError: it is.
    """
    refusal = rules.refusal(found.name, found.distribution, is_builtin=found.is_builtin)
    problem = refusal or found.problem
    if problem:
        raise PluginError(
            f"frontend {found} cannot be used: {problem}",
            hint=None if refusal else _reinstall(found.distribution),
        )


def load_plugin(name: str, target: str, distribution: Distribution) -> Any:
    """Import a plugin for pluggy: a module, or an object.

    Raises:
        PluginError: it cannot be imported, or is written for another api.
    """
    what = f"plugin `{name}` of distribution `{distribution.name}` {distribution.version}".strip()
    plugin = _load(what, target, distribution.name)
    if isinstance(plugin, type):
        try:
            plugin = plugin()
        except Exception as err:
            raise _failed(what, err, distribution.name) from err
    api = getattr(plugin, "api", 1)
    if api != API:
        raise PluginError(f"{what} cannot be used: {unsupported_api(api)}")
    return plugin


def place_of(error: BaseException) -> str:
    """Give ` at FILE:LINE` for where an error was raised; see `place_in`."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" at {os.path.basename(error.filename)}:{error.lineno}"
    return place_in(list(traceback.extract_tb(error.__traceback__)))


def place_in(frames: Sequence[traceback.FrameSummary]) -> str:
    """Give ` at FILE:LINE` for the innermost frame outside of the standard library and Torana."""
    outside = [frame for frame in frames if not _is_standard(frame.filename)]
    torana = os.path.dirname(os.path.dirname(__file__)) + os.sep
    own = [frame for frame in outside if not frame.filename.startswith(torana)] or outside
    return f" at {os.path.basename(own[-1].filename)}:{own[-1].lineno}" if own else ""


def _is_standard(filename: str) -> bool:
    if filename == __file__ or filename.startswith("<"):
        return True
    folder = os.path.dirname(os.__file__) + os.sep
    return filename.startswith(folder) and "site-packages" not in filename


def _load(what: str, target: str, distribution: str) -> Any:
    module, _, attribute = target.partition(":")
    try:
        found: Any = importlib.import_module(module.strip())
        for part in filter(None, attribute.partition("[")[0].strip().split(".")):
            found = getattr(found, part)
    except (Exception, SystemExit) as err:  # a broken plugin must be named, whatever it raises
        raise _failed(what, err, distribution) from err
    return found


def _failed(what: str, error: BaseException, distribution: str) -> PluginError:
    text = str(error).splitlines()[0] if str(error) else ""
    shown = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return PluginError(
        f"{what} failed to load{place_of(error)}: {shown}", hint=_reinstall(distribution)
    )


def _reinstall(distribution: str) -> str:
    return (
        f"another version of `{distribution}` may do; without it: "
        f"`--disable-plugin {distribution}`, or pip uninstall"
    )
