"""`Listings`: which files were behind a content digest of a client's folder.

One file per digest under `<root>/history/listings`, written when the digest is new.
"""

from __future__ import annotations

import fnmatch
import os
import secrets
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from torana.core.database import pack, unpack
from torana.core.records import dataclass

_KEPT: Final = 40
_SHORT: Final = 8

Listing = Mapping[str, bytes]
"""Relative path -> the first bytes of the digest of what is there (its name aside)."""


@dataclass(frozen=True, slots=True)
class FileChange:
    """A path that differs: `added`, `removed` or `changed`."""

    path: str
    what: str


def short(digest: str) -> bytes:
    """Give enough of a digest to tell files apart."""
    return bytes.fromhex(digest.rpartition(":")[2][: 2 * _SHORT])


def compare_listings(old: Listing, new: Listing, sources: Sequence[str] = ()) -> list[FileChange]:
    """Say what differs, sorted by path; only below `sources` (paths or wildcards) if there are any.

    A folder is left out when something in it is named.
    """
    found = {}
    for path in old.keys() | new.keys():
        if old.get(path) != new.get(path) and _is_below(path, sources):
            found[path] = (
                "added" if path not in old else "removed" if path not in new else "changed"
            )
    parents = {os.path.dirname(path) for path in found}
    for path in list(parents):
        while path:
            path = os.path.dirname(path)
            parents.add(path)
    return [
        FileChange(path, what)
        for path, what in sorted(found.items())
        if path not in parents or what != "changed"
    ]


def _is_below(path: str, sources: Sequence[str]) -> bool:
    if not sources:
        return True
    for source in sources:
        wanted = source.strip("/")
        if wanted in ("", ".") or path == wanted or path.startswith(f"{wanted}/"):
            return True
        if any(c in wanted for c in "*?["):
            depth = wanted.count("/") + 1
            head = "/".join(path.split("/")[:depth])
            if fnmatch.fnmatchcase(head, wanted):
                return True
    return False


class Listings:
    """The listings of one store. Calls block briefly."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "history" / "listings"

    def add(self, digest: str, make: Callable[[], Listing]) -> None:
        """Keep a listing; `make` is called only if it is new."""
        path = self._path(digest)
        if path.exists():
            os.utime(path)
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f".{secrets.token_hex(8)}"
        try:
            temporary.write_bytes(zlib.compress(pack(dict(make())), 1))
            os.rename(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        self._drop_oldest()

    def get(self, digest: str) -> Listing | None:
        """Give a listing, None when it is gone or cannot be read."""
        try:
            found: Listing | None = unpack(zlib.decompress(self._path(digest).read_bytes()))
        except (OSError, ValueError, zlib.error):
            return None
        return found

    def _path(self, digest: str) -> Path:
        return self._folder / digest.rpartition(":")[2][:32]

    def _drop_oldest(self) -> None:
        with os.scandir(self._folder) as entries:
            found = sorted((entry.stat().st_mtime_ns, entry.path) for entry in entries)
        for _, path in found[:-_KEPT]:
            Path(path).unlink(missing_ok=True)
