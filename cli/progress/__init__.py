"""Displays of progress: `auto`, `plain`, `tty`, `rawjson`, `quiet`, and those of plugins."""

from __future__ import annotations

import sys

from torana.core.errors import UsageError
from torana.plugins.displays import Display
from torana.plugins.manager import PluginManager


def open_display(mode: str, plugins: PluginManager | None = None) -> Display:
    """Open the display of `mode` on standard error.

    Raises:
        UsageError: there is none of that name.
    """
    from torana.cli.progress import builtin

    plugins = plugins or PluginManager()
    if not plugins.hooks.is_registered(builtin):
        plugins.hooks.register(builtin, name=builtin.__name__)
    try:
        opened = plugins.display(mode)
    except UsageError as err:
        raise UsageError(f"--progress: {err.message}", hint=err.hint) from None
    return opened(sys.stderr.write)
