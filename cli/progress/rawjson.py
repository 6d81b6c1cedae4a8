"""Raw progress: one JSON object per event, in the form of `buildctl --progress=rawjson`."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from torana.core.solver.progress import (
    LogEvent,
    ProgressEvent,
    StatusEvent,
    VertexEvent,
    WarningEvent,
)


class RawJsonProgress:
    """Writes each event as a solve status with one entry."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def emit(self, event: ProgressEvent) -> None:
        match event:
            case VertexEvent():
                key, value = "vertexes", _vertex(event)
            case StatusEvent():
                key, value = "statuses", _status(event)
            case LogEvent():
                key, value = "logs", _log(event)
            case WarningEvent():
                key, value = "warnings", _warning(event)
        self._write(json.dumps({key: [value]}, separators=(",", ":")) + "\n")

    def close(self) -> None:
        """Nothing is held back."""


def _time(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _times(out: dict[str, Any], started: float | None, completed: float | None) -> dict[str, Any]:
    if started is not None:
        out["started"] = _time(started)
    if completed is not None:
        out["completed"] = _time(completed)
    return out


def _vertex(event: VertexEvent) -> dict[str, Any]:
    out: dict[str, Any] = {"digest": str(event.digest)}
    if event.inputs:
        out["inputs"] = [str(digest) for digest in event.inputs]
    out["name"] = event.name
    _times(out, event.started, event.completed)
    if event.cached:
        out["cached"] = True
    if event.error:
        out["error"] = event.error
    if event.progress_group is not None:
        group = event.progress_group
        out["progressGroup"] = {"id": group.id, "name": group.name, "weak": group.weak}
    return out


def _status(event: StatusEvent) -> dict[str, Any]:
    out: dict[str, Any] = {"id": event.id, "vertex": str(event.vertex)}
    if event.name:
        out["name"] = event.name
    if event.total:
        out["total"] = event.total
    out["current"] = event.current
    out["timestamp"] = _time(event.timestamp)
    return _times(out, event.started, event.completed)


def _log(event: LogEvent) -> dict[str, Any]:
    data = base64.b64encode(event.data).decode()
    return {
        "vertex": str(event.vertex),
        "stream": event.stream,
        "data": data,
        "timestamp": _time(event.timestamp),
    }


def _warning(event: WarningEvent) -> dict[str, Any]:
    ranges = [
        {
            "start": {"line": r.start.line, "character": r.start.column},
            "end": {"line": r.end.line, "character": r.end.column},
        }
        for r in event.ranges
    ]
    return {
        "vertex": str(event.vertex or ""),
        "level": event.level,
        "short": base64.b64encode(event.short.encode()).decode(),
        "detail": [base64.b64encode(line.encode()).decode() for line in event.detail],
        "url": event.url,
        "range": ranges,
    }
