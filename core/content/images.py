"""`ImageStore`: names of images that are kept in the store."""

from __future__ import annotations

import time
from typing import Final

from torana.core.database import Database, pack, unpack
from torana.core.oci.descriptor import Descriptor
from torana.core.records import dataclass

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS images (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """A name and the manifest or index that it stands for."""

    name: str
    target: Descriptor
    updated: float  # seconds since the epoch


class ImageStore:
    """Images by name; their blobs are in the content store and may not be collected."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.execute_script(_TABLES)

    def set(self, name: str, target: Descriptor) -> None:
        """Name an image, in place of what had the name before."""
        value = pack({"target": target.to_dict(), "updated": time.time()})
        self._database.execute("INSERT OR REPLACE INTO images VALUES (?, ?)", (name, value))

    def get(self, name: str) -> StoredImage | None:
        row = self._database.row("SELECT name, value FROM images WHERE name = ?", (name,))
        return None if row is None else _image(*row)

    def remove(self, name: str) -> bool:
        """Forget a name; says whether it was there."""
        return self._database.execute("DELETE FROM images WHERE name = ?", (name,)) > 0

    def all(self) -> list[StoredImage]:
        """Give all images, sorted by name."""
        rows = self._database.rows("SELECT name, value FROM images ORDER BY name")
        return [image for row in rows if (image := _image(*row)) is not None]


def _image(name: str, value: bytes) -> StoredImage | None:
    raw = unpack(value)
    if raw is None:
        return None
    return StoredImage(name, Descriptor.from_dict(raw["target"]), raw["updated"])
