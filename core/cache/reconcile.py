"""`reconcile`: puts a store right after a process was killed; `check_records`: looks only.

Both may run while others build. A row without data is wrong at any time, for data is there before
its row; data without a row is in the making as long as a lease holds its id.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from torana.core.cache.finding import Finding, Look
from torana.core.cache.lease import HoldKind, StaleLease, all_held
from torana.core.cache.lockedfolders import abandoned_folders, remove_abandoned_folders
from torana.core.cache.manager import CacheManager
from torana.core.cache.records import RefRecord
from torana.core.content.store import ContentStore
from torana.core.errors import NotFoundError
from torana.core.oci.digest import Digest

RECORD_WITHOUT_DATA: Final = "record without data"
RECORD_WITHOUT_PARENT: Final = "record without its parent"
RECORD_OF_OTHER_SCHEMA: Final = "record of another version"
DATA_WITHOUT_RECORD: Final = "data without record"


def reconcile(
    manager: CacheManager, content: ContentStore, repairs: Sequence[Look] = ()
) -> list[Finding]:
    """Put right what dead processes have left; gives what was dropped.

    While another process reconciles, this one goes on: each step leaves the store usable. `repairs`
    are for what others keep in the store.
    """
    stale, lost = manager.lease.stale(), manager.records.lost()
    path = manager.root / "locks" / "reconcile"
    with open(path, "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return []
        manager.lease.drop_holds(stale)
        findings = list(_reconcile(manager, content, stale, lost))
        for repair in repairs:
            findings += repair()
        manager.sweep()
        remove_abandoned_folders(manager.root / "views")
        manager.lease.drop(stale)
        return findings


def _reconcile(
    manager: CacheManager, content: ContentStore, stale: Sequence[StaleLease], lost: Sequence[str]
) -> Iterator[Finding]:
    for name in content.reconcile():
        yield Finding("unfinished blob", name)
    for id in lost:
        yield Finding("record whose data was not synced", id)
        manager.records.delete(id)
        manager.remove_data(id)
    if lost or any(lease.is_of_earlier_boot for lease in stale):
        for finding in list(damaged_blobs(content)):
            yield finding
            content.delete(Digest(finding.id))
    for ref, digest, _ in manager.records.layer_blobs():
        if not content.exists(Digest(digest)):
            manager.records.drop_layer(ref, digest)  # it is made anew when it is wanted
    for finding in check_records(manager):
        yield finding
        if finding.problem != DATA_WITHOUT_RECORD:
            manager.records.delete(finding.id)
        manager.remove_data(finding.id)


def check_records(manager: CacheManager) -> list[Finding]:
    """Compare rows with data; what others are just making or removing does not count."""
    data = {*manager.snapshots.names(), *manager.retained_folders.ids()}
    held = all_held(manager.database, HoldKind.REF)
    ids = set(manager.records.ids())  # after data and holds: a row comes after both
    records = {record.id: record for record in manager.records.all()}
    findings = [
        Finding(RECORD_OF_OTHER_SCHEMA, id)
        for id in sorted(ids - set(records))
        if manager.records.exists(id)
    ]
    whole: dict[str, str | None] = {}
    for record in records.values():
        problem = _problem(manager, records, record, whole)
        # Looked at again: it may have been removed meanwhile.
        if problem and manager.records.get(record.id) is not None:
            findings.append(Finding(problem, record.id))
    for id in sorted(data - ids - held):
        is_there = manager.snapshots.exists(id) or manager.retained_folders.exists(id)
        if is_there and manager.records.get(id) is None and not manager.is_held(id):
            findings.append(Finding(DATA_WITHOUT_RECORD, id))
    return findings


def _problem(
    manager: CacheManager,
    records: dict[str, RefRecord],
    record: RefRecord,
    known: dict[str, str | None],
) -> str | None:
    """Say what is wrong with a record or below it; `known` remembers answers."""
    chain = [record]
    while True:
        top = chain[-1]
        if top.id in known:
            chain.pop()
        elif not manager.has_data(top):
            known[top.id] = RECORD_WITHOUT_DATA
        elif missing := [id for id in top.parents if id not in known]:
            absent = [id for id in missing if id not in records]
            if absent:
                known[top.id] = RECORD_WITHOUT_PARENT
            else:
                chain.extend(records[id] for id in missing)
        else:
            is_whole = all(known[id] is None for id in top.parents)
            known[top.id] = None if is_whole else RECORD_WITHOUT_PARENT
        if not chain:
            return known[record.id]


def check_leases(manager: CacheManager) -> list[Finding]:
    """Give leases and folders of processes that are gone."""
    findings = [
        Finding("lease of a dead process", f"{lease.id:x}") for lease in manager.lease.stale()
    ]
    views = abandoned_folders(manager.root / "views")
    findings += [Finding("view of a dead process", path.name) for path in views]
    # Empty folders to mount at are left by processes that ended well, too, and swept some day.
    for path in abandoned_folders(manager.root / "snapshots" / "mounts"):
        findings += [Finding("mount of a dead process", place) for place in _mounted_below(path)]
    return findings


def _mounted_below(folder: Path) -> list[str]:
    """Give the places below `folder` where something is mounted, as this process sees it."""
    prefix = f"{folder.resolve()}/"
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [place for line in lines if (place := line.split()[4]).startswith(prefix)]


def damaged_blobs(content: ContentStore) -> Iterator[Finding]:
    """Read all blobs and give those that are not what their names say."""
    for digest in list(content.digests()):
        try:
            is_whole = content.verify(digest)
        except NotFoundError:
            continue  # removed meanwhile
        if not is_whole:
            yield Finding("damaged blob", digest)


def missing_blobs(manager: CacheManager, content: ContentStore) -> Iterator[Finding]:
    """Give layers whose blob is gone: harmless, they are made anew."""
    for ref, digest, _ in manager.records.layer_blobs():
        if not content.exists(Digest(digest)):
            yield Finding("layer without its blob", f"{ref} {digest}")
