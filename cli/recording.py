"""`Recording`: passes progress on and can tell how it would look if all had been cached."""

from __future__ import annotations

import io
import os
from dataclasses import replace

from torana.core.oci.digest import Digest
from torana.core.solver.progress import ProgressEvent, VertexEvent, WarningEvent
from torana.plugins.displays import Display

_NOT_STEPS = ("[internal]", "exporting ")


class Recording:
    """A display that remembers the vertices it showed."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._vertices: dict[Digest, VertexEvent] = {}
        self._warnings: list[WarningEvent] = []

    def emit(self, event: ProgressEvent) -> None:
        if isinstance(event, VertexEvent) and event.started is not None:
            self._vertices[event.digest] = event
        elif isinstance(event, WarningEvent):
            self._warnings.append(event)
        self._display.emit(event)

    def close(self) -> None:
        self._display.close()

    def as_cached(self, mode: str) -> str:
        """Give the text of `mode` for the same build with every step cached."""
        if mode == "quiet":
            return ""
        out = io.StringIO()
        display: Display
        if mode == "tty" or (mode == "auto" and os.isatty(2) and os.environ.get("TERM") != "dumb"):
            from rich.console import Console

            from torana.cli.progress.tty import TtyProgress

            width = os.get_terminal_size(2).columns if os.isatty(2) else 80
            display = TtyProgress(Console(file=out, force_terminal=True, width=width))
        else:
            from torana.cli.progress.plain import PlainProgress

            display = PlainProgress(out.write)
        for warning in self._warnings:
            display.emit(warning)
        for event in self._vertices.values():
            is_step = not event.name.startswith(_NOT_STEPS)
            display.emit(replace(event, completed=event.started, cached=is_step, error=""))
        display.close()
        return out.getvalue()
