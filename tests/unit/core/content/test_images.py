from __future__ import annotations

from pathlib import Path

import pytest

from torana.core.content.images import ImageStore
from torana.core.database import Database
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest
from torana.core.oci.platform import Platform


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "db")


def descriptor(text: str) -> Descriptor:
    return Descriptor(
        media_type="application/x",
        digest=Digest.of_text(text),
        size=len(text),
        annotations={"b": "2", "a": "1"},
        platform=Platform(os="linux", architecture="arm64", variant="v8"),
    )


def test_names(database: Database) -> None:
    images = ImageStore(database)
    assert images.all() == []
    assert images.get("a") is None
    images.set("b", descriptor("one"))
    images.set("a", descriptor("two"))
    images.set("b", descriptor("three"))
    assert [image.name for image in images.all()] == ["a", "b"]
    found = ImageStore(database).get("b")
    assert found is not None
    assert found.target == descriptor("three")
    assert found.updated > 1_600_000_000
    assert images.remove("b")
    assert not images.remove("b")
    assert [image.name for image in images.all()] == ["a"]
    database.close()


def test_values_of_another_schema_are_not_there(database: Database) -> None:
    images = ImageStore(database)
    images.set("good", descriptor("x"))
    database.execute("INSERT INTO images VALUES ('old', x'9263c0')")
    assert images.get("old") is None
    assert [image.name for image in images.all()] == ["good"]
    database.close()
