"""Cache records as `torana du` and `torana prune` print them, after `buildctl du`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from torana.cli.progress.amounts import format_bytes
from torana.core.cache.usage import UsageRecord

_UNITS_S = (("d", 86400), ("h", 3600), ("m", 60))


def header() -> str:
    """Give the first line of a table; a star means mutable at the id, shared at the size."""
    return f"{'ID':<26}{'RECLAIMABLE':<13}{'SIZE':<12}{'LAST USED':<12}DESCRIPTION"


def row(record: UsageRecord) -> str:
    """Give a record in one line."""
    id = record.id + "*" * record.is_mutable
    size = format_bytes(record.size_bytes) + "*" * record.is_shared
    reclaimable = _claim(not record.is_in_use)
    age = f"{_age(record.last_used)} ago"
    return f"{id:<26}{reclaimable:<13}{size:<12}{age:<12}{record.description}".rstrip()


def verbose(record: UsageRecord) -> str:
    """Give all fields of a record, one a line, and an empty line."""
    fields = [
        ("ID", record.id),
        ("Parents", ";".join(record.parents)),
        ("Created at", _moment(record.created)),
        ("Mutable", _claim(record.is_mutable)),
        ("Reclaimable", _claim(not record.is_in_use)),
        ("Shared", _claim(record.is_shared)),
        ("Size", format_bytes(record.size_bytes)),
        ("Description", record.description),
        ("Usage count", str(record.usage_count)),
        ("Last used", f"{_age(record.last_used)} ago"),
        ("Type", record.record_type.value),
    ]
    return "".join(f"{name + ':':<16}{value}\n" for name, value in fields if value)


def summary(records: Sequence[UsageRecord], *, is_total_only: bool = False) -> str:
    """Give the totals of records."""
    total = sum(record.size_bytes for record in records)
    shared = sum(record.size_bytes for record in records if record.is_shared)
    free = sum(record.size_bytes for record in records if not record.is_in_use)
    lines = []
    if not is_total_only:
        if shared:
            lines += [("Shared", shared), ("Private", total - shared)]
        lines.append(("Reclaimable", free))
    lines.append(("Total", total))
    return "\n".join(f"{name + ':':<16}{format_bytes(size)}" for name, size in lines)


def as_json(record: UsageRecord) -> dict[str, Any]:
    """Give a record with the names and forms of BuildKit's `UsageInfo`."""
    return {
        "id": record.id,
        "mutable": record.is_mutable,
        "inUse": record.is_in_use,
        "size": record.size_bytes,
        "createdAt": _json_moment(record.created),
        "lastUsedAt": _json_moment(record.last_used),
        "usageCount": record.usage_count,
        "parents": list(record.parents),
        "description": record.description,
        "recordType": record.record_type.value,
        "shared": record.is_shared,
    }


def _claim(claim: bool) -> str:
    return str(claim).lower()


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S +0000", time.gmtime(seconds))


def _json_moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _age(moment: float) -> str:
    seconds = max(0, int(time.time() - moment))
    for unit, size in _UNITS_S:
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
