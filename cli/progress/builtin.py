"""Built-in displays, on the hook that displays of others use, too."""

from __future__ import annotations

import os
from collections.abc import Callable

from torana.core.solver.progress import ProgressEvent
from torana.plugins.displays import Display, OpenDisplay
from torana.plugins.hookspecs import hookimpl


class QuietProgress:
    """Shows nothing."""

    def emit(self, event: ProgressEvent) -> None:
        """Ignore the event."""

    def close(self) -> None:
        """Nothing is held."""


def _plain(write: Callable[[str], object]) -> Display:
    from torana.cli.progress.plain import PlainProgress

    return PlainProgress(write)


def _terminal(write: Callable[[str], object]) -> Display:
    from rich.console import Console

    from torana.cli.progress.tty import TtyProgress

    return TtyProgress(Console(stderr=True))


def _rawjson(write: Callable[[str], object]) -> Display:
    from torana.cli.progress.rawjson import RawJsonProgress

    return RawJsonProgress(write)


def _auto(write: Callable[[str], object]) -> Display:
    is_terminal = os.isatty(2) and os.environ.get("TERM") != "dumb"
    return (_terminal if is_terminal else _plain)(write)


_DISPLAYS: dict[str, OpenDisplay] = {
    "auto": _auto,
    "plain": _plain,
    "tty": _terminal,
    "rawjson": _rawjson,
    "quiet": lambda _: QuietProgress(),
}


@hookimpl
def torana_find_display(mode: str) -> OpenDisplay | None:
    """Give the built-in display of that mode."""
    return _DISPLAYS.get(mode)


@hookimpl
def torana_list_displays() -> list[str]:
    """Give the modes of the built-in displays."""
    return list(_DISPLAYS)
