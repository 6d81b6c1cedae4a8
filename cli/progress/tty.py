"""Progress on a terminal: running steps with their time, counters and the tail of their output."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import field

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from torana.cli.progress.amounts import format_bytes, format_duration
from torana.core.oci.digest import Digest
from torana.core.records import dataclass
from torana.core.solver.progress import (
    LogEvent,
    ProgressEvent,
    StatusEvent,
    VertexEvent,
    WarningEvent,
)

_TAIL_LINES = 6
_REFRESH_PER_S = 8


@dataclass(slots=True)
class _Step:
    name: str
    started: float
    completed: float | None = None
    cached: bool = False
    error: str = ""
    statuses: dict[str, StatusEvent] = field(default_factory=dict)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))
    partial: bytes = b""


class TtyProgress:
    """Keeps finished steps as one line each and redraws the running ones in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._steps: dict[Digest, _Step] = {}
        self._began = time.time()
        self._is_over = False
        self._live = Live(
            console=console,
            auto_refresh=True,
            refresh_per_second=_REFRESH_PER_S,
            vertical_overflow="crop",
        )
        self._live.get_renderable = self._render  # type: ignore[method-assign]  # drawn anew each time
        self._live.start()

    def emit(self, event: ProgressEvent) -> None:
        match event:
            case VertexEvent():
                self._vertex(event)
            case StatusEvent():
                step = self._steps.get(event.vertex)
                if step is not None:
                    step.statuses[event.id] = event
            case LogEvent():
                self._log(event)
            case WarningEvent():
                place = f" ({event.ranges[0]})" if event.ranges else ""
                self._live.console.print(
                    Text(f"WARNING: {event.short}{place}", style="yellow"), highlight=False
                )

    def close(self) -> None:
        """Draw a last time and give the terminal back."""
        self._is_over = True
        self._live.vertical_overflow = "visible"
        self._live.stop()

    def _vertex(self, event: VertexEvent) -> None:
        if event.started is None:
            return
        step = self._steps.get(event.digest)
        if step is None:
            step = self._steps[event.digest] = _Step(event.name, event.started)
        if event.completed is not None:
            step.completed = event.completed
            step.started = event.started
            step.cached = event.cached
            step.error = event.error

    def _log(self, event: LogEvent) -> None:
        step = self._steps.get(event.vertex)
        if step is None:
            return
        *lines, step.partial = (step.partial + event.data).split(b"\n")
        for line in lines:
            text = line.rstrip(b"\r").rpartition(b"\r")[2]
            step.tail.append(text.decode("utf-8", "backslashreplace"))

    def _render(self) -> Group:
        now = time.time()
        steps = list(self._steps.values())
        done = sum(step.completed is not None for step in steps)
        rows = [Text(f"[+] Building {format_duration(now - self._began)} ({done}/{len(steps)})")]
        # What does not fit is cut at the top: old finished steps matter least.
        height = max(4, self._console.height - 2)
        for step in steps:
            rows += self._rows(step, now)
        if not self._is_over and len(rows) > height:
            rows = [rows[0], *rows[len(rows) - height + 1 :]]
        return Group(*rows)

    def _rows(self, step: _Step, now: float) -> list[Text]:
        end = now if step.completed is None else step.completed
        elapsed = format_duration(max(0.0, end - step.started))
        if step.error:
            canceled = "context canceled" in step.error
            mark, style = (" => CANCELED ", "yellow") if canceled else (" => ERROR ", "red")
        elif step.cached:
            mark, style, elapsed = " => CACHED ", "blue", format_duration(0)
        else:
            mark, style = " => ", "blue" if step.completed is not None else ""
        rows = [self._row(mark + step.name, elapsed, style)]
        if step.completed is None:
            rows += [
                self._row(f" => => {_counter(status)}", "", "")
                for status in step.statuses.values()
                if status.completed is None
            ]
            width = max(10, self._console.width - 6)
            rows += [Text(f" => # {line[:width]}", style="dim") for line in step.tail]
        return rows

    def _row(self, left: str, right: str, style: str) -> Text:
        width = self._console.width - len(right) - 1
        if len(left) > width:
            left = left[: max(1, width - 1)] + "…"
        return Text(f"{left:<{max(1, width)}} {right}".rstrip(), style=style, no_wrap=True)


def _counter(status: StatusEvent) -> str:
    text = status.name or status.id
    if status.total:
        return f"{text} {format_bytes(status.current)} / {format_bytes(status.total)}"
    return f"{text} {format_bytes(status.current)}" if status.current else text
