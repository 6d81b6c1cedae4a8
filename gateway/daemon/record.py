"""`BuildRecord`: what is kept of a build, and its stored form.

Spec: `moby.buildkit.v1.BuildHistoryRecord`; reference of the daemon, section 7.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final

from torana.core.oci.digest import Digest
from torana.core.records import dataclass

STATUS_LOG: Final = "application/vnd.buildkit.status.v0"
ERROR_STATUS: Final = "application/vnd.googeapis.google.rpc.status+proto"  # spelt so on the wire
TRACE: Final = "application/vnd.buildkit.otlp.json.v0"
CANCELED: Final = 1  # gRPC's code


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A blob that a record names; it lies in the content store of the history."""

    media_type: str
    digest: Digest
    size_bytes: int
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultInfo:
    """What a build made, for one platform: by number of the export, and what is said of it."""

    results: Mapping[int, Blob] = field(default_factory=dict)
    attestations: tuple[Blob, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """How many vertices a build had, and how they ended."""

    total: int = 0
    completed: int = 0
    cached: int = 0
    warnings: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRecord:
    """One build; times are seconds since the epoch, `completed` None means that it runs."""

    ref: str
    created: float
    frontend: str = ""
    frontend_attrs: Mapping[str, str] = field(default_factory=dict)
    exporters: tuple[tuple[str, Mapping[str, str]], ...] = ()  # type, attributes
    completed: float | None = None
    error: tuple[int, str] | None = None  # gRPC code, message
    error_blob: Blob | None = None
    logs: Blob | None = None
    trace: Blob | None = None
    response: Mapping[str, str] = field(default_factory=dict)
    result: ResultInfo | None = None
    results: Mapping[str, ResultInfo] = field(default_factory=dict)  # by platform
    steps: Steps = field(default_factory=Steps)
    generation: int = 0  # grows with each later change
    is_pinned: bool = False

    @property
    def status(self) -> str:
        """Give `running`, `completed`, `error` or `canceled`, as filters name them."""
        if self.completed is None:
            return "running"
        if self.error is None:
            return "completed"
        return "canceled" if self.error[0] == CANCELED else "error"

    @property
    def repository(self) -> str:
        """Give the repository that was built from, as far as the client said."""
        if source := self.frontend_attrs.get("vcs:source"):
            return source
        context = self.frontend_attrs.get("context", "")
        is_git = context.startswith("git@") or ".git" in context
        return context.partition("#")[0] if is_git else ""

    def blobs(self) -> list[Blob]:
        """Give all blobs that belong to this record."""
        infos = [*([self.result] if self.result else []), *self.results.values()]
        found = [blob for info in infos for blob in (*info.results.values(), *info.attestations)]
        return [*(b for b in (self.logs, self.trace, self.error_blob) if b is not None), *found]


def to_stored(record: BuildRecord) -> dict[str, Any]:
    """Give a record as plain values; `from_stored` reads it."""
    return {
        "ref": record.ref,
        "created": record.created,
        "frontend": record.frontend,
        "attrs": dict(record.frontend_attrs),
        "exporters": [[type_, dict(attrs)] for type_, attrs in record.exporters],
        "completed": record.completed,
        "error": None if record.error is None else list(record.error),
        "error_blob": _stored_blob(record.error_blob),
        "logs": _stored_blob(record.logs),
        "trace": _stored_blob(record.trace),
        "response": dict(record.response),
        "result": None if record.result is None else _stored_info(record.result),
        "results": {key: _stored_info(info) for key, info in record.results.items()},
        "steps": [
            record.steps.total,
            record.steps.completed,
            record.steps.cached,
            record.steps.warnings,
        ],
        "generation": record.generation,
        "pinned": record.is_pinned,
    }


def from_stored(raw: Mapping[str, Any]) -> BuildRecord:
    """Read what `to_stored` gave."""
    total, completed, cached, warnings = raw["steps"]
    return BuildRecord(
        ref=raw["ref"],
        created=raw["created"],
        frontend=raw["frontend"],
        frontend_attrs=raw["attrs"],
        exporters=tuple((type_, attrs) for type_, attrs in raw["exporters"]),
        completed=raw["completed"],
        error=None if raw["error"] is None else (raw["error"][0], raw["error"][1]),
        error_blob=_blob(raw["error_blob"]),
        logs=_blob(raw["logs"]),
        trace=_blob(raw["trace"]),
        response=raw["response"],
        result=None if raw["result"] is None else _info(raw["result"]),
        results={key: _info(info) for key, info in raw["results"].items()},
        steps=Steps(total=total, completed=completed, cached=cached, warnings=warnings),
        generation=raw["generation"],
        is_pinned=raw["pinned"],
    )


def _stored_blob(blob: Blob | None) -> list[Any] | None:
    if blob is None:
        return None
    return [blob.media_type, str(blob.digest), blob.size_bytes, dict(blob.annotations)]


def _blob(raw: list[Any] | None) -> Blob | None:
    if raw is None:
        return None
    return Blob(media_type=raw[0], digest=Digest(raw[1]), size_bytes=raw[2], annotations=raw[3])


def _stored_info(info: ResultInfo) -> list[Any]:
    results = {number: _stored_blob(blob) for number, blob in info.results.items()}
    return [results, [_stored_blob(blob) for blob in info.attestations]]


def _info(raw: list[Any]) -> ResultInfo:
    results = {number: _blob(blob) for number, blob in raw[0].items()}
    attestations = [_blob(blob) for blob in raw[1]]
    return ResultInfo(
        results={number: blob for number, blob in results.items() if blob is not None},
        attestations=tuple(blob for blob in attestations if blob is not None),
    )
