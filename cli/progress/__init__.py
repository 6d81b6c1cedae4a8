"""Displays of progress: `auto`, `plain`, `tty`, `rawjson` and `quiet`."""

from __future__ import annotations

import os
import sys
from typing import Protocol

from torana.core.solver.progress import ProgressEvent

MODES = ("auto", "plain", "tty", "rawjson", "quiet")


class Display(Protocol):
    """A progress sink that holds something (a terminal, half a line) until closed."""

    def emit(self, event: ProgressEvent) -> None: ...

    def close(self) -> None: ...


class QuietProgress:
    """Shows nothing."""

    def emit(self, event: ProgressEvent) -> None:
        """Ignore the event."""

    def close(self) -> None:
        """Nothing is held."""


def open_display(mode: str) -> Display:
    """Make the display for `mode`, one of `MODES`, on standard error."""
    if mode == "auto":
        is_terminal = os.isatty(2) and os.environ.get("TERM") != "dumb"
        mode = "tty" if is_terminal else "plain"
    if mode == "quiet":
        return QuietProgress()
    if mode == "tty":
        from rich.console import Console

        from torana.cli.progress.tty import TtyProgress

        return TtyProgress(Console(stderr=True))
    if mode == "rawjson":
        from torana.cli.progress.rawjson import RawJsonProgress

        return RawJsonProgress(sys.stderr.write)
    from torana.cli.progress.plain import PlainProgress

    return PlainProgress(sys.stderr.write)
