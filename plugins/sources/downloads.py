"""`Downloads`: rows that say which record holds what a URL once gave, by entity tag."""

from __future__ import annotations

from typing import Final

from torana.core.database import Database, pack, unpack
from torana.core.oci.digest import Digest
from torana.core.records import dataclass

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS downloads (
    request TEXT NOT NULL, etag TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (request, etag)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A file that was fetched; `ref` is the id of the record that holds it."""

    etag: str  # without `W/`; empty where the server gave none
    ref: str
    digest: Digest
    filename: str
    modified_s: int | None  # since the Unix epoch


class Downloads:
    """The rows of one store. `request` names a URL with all that changes its answer. Blocks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, request: str, download: Download) -> None:
        """Remember a download; the record it names must be there already."""
        self._database.execute_script(_TABLES)
        value = [download.ref, download.digest, download.filename, download.modified_s]
        self._database.execute(
            "INSERT OR REPLACE INTO downloads VALUES (?, ?, ?)",
            (request, download.etag, pack(value)),
        )

    def find(self, request: str) -> list[Download]:
        """Give what was remembered; the records may be gone."""
        self._database.execute_script(_TABLES)
        found = []
        for etag, data in self._database.rows(
            "SELECT etag, value FROM downloads WHERE request = ? ORDER BY etag", (request,)
        ):
            value = unpack(data)
            if value is not None:
                ref, digest, filename, modified_s = value
                found.append(
                    Download(
                        etag=etag,
                        ref=ref,
                        digest=Digest(digest),
                        filename=filename,
                        modified_s=modified_s,
                    )
                )
        return found

    def remove(self, request: str, etag: str) -> None:
        self._database.execute(
            "DELETE FROM downloads WHERE request = ? AND etag = ?", (request, etag)
        )
