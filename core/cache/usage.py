"""`disk_usage`: what the cache holds, as `torana du` shows it and garbage collection sees it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from torana.core.cache.filters import parse_filters
from torana.core.cache.lease import HoldKind, all_held
from torana.core.cache.manager import CacheManager
from torana.core.cache.records import RefRecord
from torana.core.cache.ref import RecordType
from torana.core.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRecord:
    """A cache record: BuildKit's `UsageInfo`.

    In use is what somebody holds, and what that is built on. Shared is what an image that is kept
    by name has among its layers. A mutable record that is in use has size 0: it is changing.
    """

    id: str
    is_mutable: bool
    is_in_use: bool
    is_shared: bool
    size_bytes: int
    parents: tuple[str, ...]
    description: str
    record_type: RecordType
    created: float  # seconds since the epoch
    last_used: float
    usage_count: int

    def field(self, name: str) -> str | None:
        """Give a field for filters; None where it is absent, text without meaning for a truth."""
        match name:
            case "id":
                return self.id
            case "parents":
                return ";".join(self.parents) or None
            case "description":
                return self.description or None
            case "type":
                return self.record_type.value
        truths = {
            "inuse": self.is_in_use,
            "mutable": self.is_mutable,
            "immutable": not self.is_mutable,
            "shared": self.is_shared,
            "private": not self.is_shared,
        }
        return "" if truths.get(name) else None


def disk_usage(
    manager: CacheManager, filters: Sequence[str] = (), *, image_blobs: Iterable[str] = ()
) -> list[UsageRecord]:
    """Give the records that match, newest use first. Blocks: sizes not known yet are measured.

    Args:
        image_blobs: digests of the blobs of images that are kept by name.

    Raises:
        InvalidFilterError: a filter cannot be understood.
    """
    matches = parse_filters(filters)
    manager.lease.settle()
    found = usage_records(manager, image_blobs)
    return [measured(manager, usage) for usage in found if matches(usage.field)]


def usage_records(manager: CacheManager, image_blobs: Iterable[str]) -> list[UsageRecord]:
    """Give all records; a size that is not known is -1."""
    records = {record.id: record for record in manager.records.all()}
    layers: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for ref, digest, size in manager.records.layer_blobs():
        layers[ref].append((digest, size))
    kept = set(image_blobs)
    shared = _with_parents(
        records, (ref for ref, blobs in layers.items() if kept & {digest for digest, _ in blobs})
    )
    in_use = _with_parents(records, all_held(manager.database, HoldKind.REF))
    return [
        UsageRecord(
            id=record.id,
            is_mutable=record.is_mutable,
            is_in_use=record.id in in_use,
            is_shared=record.id in shared,
            size_bytes=_size(record, record.id in in_use, dict(layers[record.id])),
            parents=record.parents,
            description=record.description,
            record_type=record.record_type,
            created=record.created,
            last_used=record.last_used,
            usage_count=record.usage_count,
        )
        for record in records.values()
    ]


def measured(manager: CacheManager, usage: UsageRecord) -> UsageRecord:
    """Give a record with its size, which is then remembered."""
    if usage.size_bytes >= 0:
        return usage
    record = manager.records.get(usage.id)
    try:
        size = 0 if record is None else manager.measure(record)
    except OSError:
        size = 0  # it is going away
    else:
        manager.records.set_size(usage.id, size)
    blobs = {digest: bytes_ for _, digest, bytes_ in manager.records.layer_blobs(usage.id)}
    return replace(usage, size_bytes=size + sum(blobs.values()))


def _size(record: RefRecord, is_in_use: bool, blobs: dict[str, int]) -> int:
    if record.is_mutable and is_in_use:
        return 0
    return -1 if record.size_bytes is None else record.size_bytes + sum(blobs.values())


def _with_parents(records: dict[str, RefRecord], ids: Iterable[str]) -> set[str]:
    found: set[str] = set()
    pending = [id for id in ids if id in records]
    while pending:
        id = pending.pop()
        if id not in found:
            found.add(id)
            pending.extend(parent for parent in records[id].parents if parent in records)
    return found
