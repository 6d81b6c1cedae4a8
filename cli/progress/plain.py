"""Plain progress: one line per event, as `buildctl --progress=plain` prints it."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import field

from torana.cli.progress.amounts import format_bytes
from torana.core.oci.digest import Digest
from torana.core.records import dataclass
from torana.core.solver.progress import (
    LogEvent,
    ProgressEvent,
    StatusEvent,
    VertexEvent,
    WarningEvent,
)


@dataclass(slots=True)
class _Vertex:
    number: int
    name: str
    started: float | None = None
    done: bool = False
    partial: dict[int, bytes] = field(default_factory=dict)  # unfinished log line by stream


class PlainProgress:
    """Writes progress as text that is fit for files and CI logs.

    Vertices that run at the same time take turns: a vertex's lines stay together under its header,
    and the header is repeated when output comes back to it.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._vertices: dict[Digest, _Vertex] = {}
        self._last: _Vertex | None = None
        self._statuses: dict[tuple[Digest, str], bool] = {}

    def emit(self, event: ProgressEvent) -> None:
        match event:
            case VertexEvent():
                self._vertex(event)
            case StatusEvent():
                self._status(event)
            case LogEvent():
                self._log(event)
            case WarningEvent():
                self._warning(event)

    def close(self) -> None:
        """Flush unfinished log lines."""
        for vertex in self._vertices.values():
            self._flush(vertex)

    def _vertex(self, event: VertexEvent) -> None:
        if event.started is None:
            return
        vertex = self._vertices.get(event.digest)
        if vertex is None:
            vertex = _Vertex(len(self._vertices) + 1, event.name)
            self._vertices[event.digest] = vertex
        if vertex.done and not (event.completed is not None and event.error):
            return
        if vertex.started is None:
            vertex.started = event.started
        if event.completed is None:
            self._turn_to(vertex)
            return
        self._flush(vertex)
        self._turn_to(vertex)
        if event.error:
            last = event.error.rstrip().splitlines()[-1:] or [""]
            canceled = "context canceled" in event.error
            self._line(vertex, "CANCELED" if canceled else f"ERROR: {last[0]}")
        elif event.cached:
            self._line(vertex, "CACHED")
        else:
            self._line(vertex, f"DONE {event.completed - event.started:.1f}s")
        vertex.done = True

    def _status(self, event: StatusEvent) -> None:
        vertex = self._vertices.get(event.vertex)
        key = (event.vertex, event.id)
        if vertex is None or self._statuses.get(key):
            return
        if key in self._statuses and event.completed is None:
            return  # one line at the start and one at the end are enough for a log
        self._statuses[key] = event.completed is not None
        text = event.name or event.id
        if event.total:
            text += f" {format_bytes(event.current)} / {format_bytes(event.total)}"
        elif event.current:
            text += f" {format_bytes(event.current)}"
        if event.completed is not None:
            started = event.started if event.started is not None else event.completed
            text += f" {event.completed - started:.1f}s done"
        self._turn_to(vertex)
        self._line(vertex, text)

    def _log(self, event: LogEvent) -> None:
        vertex = self._vertices.get(event.vertex)
        if vertex is None:
            return
        data = vertex.partial.pop(event.stream, b"") + event.data
        *lines, rest = data.split(b"\n")
        if rest:
            vertex.partial[event.stream] = rest
        if lines:
            self._turn_to(vertex)
        elapsed = event.timestamp - (vertex.started or event.timestamp)
        for line in lines:
            self._line(vertex, f"{elapsed:.3f} {_text(line)}")

    def _flush(self, vertex: _Vertex) -> None:
        for rest in vertex.partial.values():
            self._turn_to(vertex)
            self._line(vertex, _text(rest))
        vertex.partial.clear()

    def _warning(self, event: WarningEvent) -> None:
        place = f" ({event.ranges[0]})" if event.ranges else ""
        out = io.StringIO()
        out.write(f"\nWARNING: {event.short}{place}\n")
        for line in event.detail:
            out.write(f"  {line}\n")
        if event.url:
            out.write(f"  see {event.url}\n")
        self._write(out.getvalue())

    def _turn_to(self, vertex: _Vertex) -> None:
        if self._last is vertex:
            return
        if self._last is not None:
            self._write("\n")
        self._last = vertex
        self._write(f"#{vertex.number} {vertex.name}\n")

    def _line(self, vertex: _Vertex, text: str) -> None:
        self._write(f"#{vertex.number} {text}\n")


def _text(line: bytes) -> str:
    return line.rstrip(b"\r").decode("utf-8", "backslashreplace")
