"""`Display`: what shows the progress of a build to a person or a program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torana.core.solver.progress import ProgressEvent


class Display(Protocol):
    """A progress sink that holds something (a terminal, half a line) until closed.

    Conformance: `torana.plugins.testing.displays.DisplaySuite`.
    """

    def emit(self, event: ProgressEvent) -> None:
        """Take an event, in order, on the event loop; must neither block nor raise."""
        ...

    def close(self) -> None:
        """Let go of what is held; may be called more than once, also without any event."""
        ...


OpenDisplay = Callable[[Callable[[str], object]], Display]
"""Opens a display, given what writes text to standard error."""
