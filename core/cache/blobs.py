"""Which blobs are needed, and the removal of those that are not.

Who is about to use a blob holds it, then looks for it, and by that gives it a new change time. Who
removes blobs notes their times before finding out what is needed, and looks again in the
transaction that excludes new holds: neither a blob in use nor one that was used meanwhile is taken.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from typing import Any, Final

from torana.core.cache.lease import HoldKind, is_held
from torana.core.content.store import ContentStore
from torana.core.database import Database
from torana.core.errors import NotFoundError, ToranaError
from torana.core.faults import fault_point
from torana.core.oci.digest import Digest

_LARGEST_MANIFEST_BYTES: Final = 4 << 20


def blobs_below(content: ContentStore, roots: Iterable[Digest]) -> set[str]:
    """Give the digests of manifests and indexes and of everything that they name."""
    found: set[str] = set()
    pending = list(roots)
    while pending:
        digest = pending.pop()
        if digest not in found:
            found.add(digest)
            pending.extend(_named_by(content, digest))
    return found


def _named_by(content: ContentStore, digest: Digest) -> Iterator[Digest]:
    try:
        if content.size(digest) > _LARGEST_MANIFEST_BYTES:
            return
        with content.open(digest) as file:
            document = json.load(file)
    except (NotFoundError, ValueError, RecursionError):
        return
    if isinstance(document, dict):
        for entry in _entries(document):
            try:
                yield Digest.parse(entry["digest"])
            except (TypeError, KeyError, ToranaError):
                continue


def _entries(document: dict[str, Any]) -> Iterator[Any]:
    for name in ("manifests", "layers"):
        entries = document.get(name)
        if isinstance(entries, list):
            yield from entries
    yield document.get("config")
    yield document.get("subject")


def blob_times(content: ContentStore) -> dict[Digest, int]:
    """Give all blobs with their change times, to be taken before `needed` is found out."""
    found = {}
    for digest in content.digests():
        try:
            found[digest] = os.stat(content.path(digest)).st_ctime_ns
        except FileNotFoundError:
            continue
    return found


def collect_blobs(
    content: ContentStore, database: Database, before: dict[Digest, int], needed: set[str]
) -> int:
    """Remove blobs that are neither needed nor held; gives the bytes."""
    freed = 0
    for digest, changed_ns in before.items():
        if digest in needed:
            continue
        with database.transaction():
            if is_held(database, HoldKind.BLOB, digest):
                continue
            try:
                status = os.stat(content.path(digest))
            except FileNotFoundError:
                continue
            if status.st_ctime_ns == changed_ns:
                fault_point("blob.delete")
                content.delete(digest)
                freed += status.st_size
    return freed
