"""Images in OCI layouts of the client."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.registry.builds import Builds

from torana.core.errors import CorruptError, NotFoundError, UserError
from torana.core.oci.digest import Digest
from torana.plugins.registry.access import RegistryAccess
from torana.plugins.registry.credentials import NoCredentials
from torana.plugins.registry.layout import LayoutError, find_digest
from torana.plugins.registry.settings import RegistrySettings


@pytest.fixture
def builds(tmp_path: Path) -> Iterator[Builds]:
    made = Builds(tmp_path, RegistryAccess(RegistrySettings(), NoCredentials()))
    yield made
    made.close()


@pytest.fixture
async def layout(tmp_path: Path) -> Path:
    """A layout that another store has exported."""
    (tmp_path / "other").mkdir()
    other = Builds(tmp_path / "other", RegistryAccess(RegistrySettings(), NoCredentials()))
    await other.image("FROM scratch\nCOPY Dockerfile /first\nENV WHO=me\n")
    other.close()
    folder = tmp_path / "layout"
    with tarfile.open(tmp_path / "other/image.tar") as archive:
        archive.extractall(folder, filter="data")
    return folder


async def test_an_image_of_a_layout(builds: Builds, layout: Path) -> None:
    digest = find_digest(layout, "")
    builds.layouts = {"base": layout}
    text = "FROM base\nCOPY Dockerfile /$WHO\n"
    options = {"context:base": f"oci-layout://base@{digest}"}
    assert sorted(await builds.files(text, **options)) == ["first", "me"]
    image = await builds.image(text, **options)
    layers = [path.name for path in (layout / "blobs/sha256").iterdir()]
    assert image["manifest"]["layers"][0]["digest"].partition(":")[2] in layers
    with pytest.raises(NotFoundError, match="no OCI layout is called `else`"):
        await builds.build(text, **{"context:base": f"oci-layout://else@{digest}"})
    with pytest.raises(NotFoundError, match="not found"):
        missing = Digest.of(b"")
        await builds.build(text, **{"context:base": f"oci-layout://base@{missing}"})


async def test_a_damaged_layout(builds: Builds, layout: Path) -> None:
    digest = find_digest(layout, "")
    builds.layouts = {"base": layout}
    options = {"context:base": f"oci-layout://base@{digest}"}
    blob = layout / "blobs/sha256" / digest.encoded
    data = blob.read_bytes()
    os.chmod(blob, 0o644)
    blob.write_bytes(data + b" ")
    with pytest.raises(CorruptError, match="damaged"):
        await builds.build("FROM base\n", **options)
    blob.write_bytes(data)
    for path in (layout / "blobs/sha256").iterdir():
        if path.read_bytes()[:2] == b"\x1f\x8b":
            os.chmod(path, 0o644)
            path.write_bytes(b"\x1f\x8b broken")
    with pytest.raises(CorruptError, match="expected"):
        await builds.files("FROM base\n", **options)


def test_tags_of_a_layout(tmp_path: Path) -> None:
    entry = (
        '{"mediaType":"m","size":1,"digest":"sha256:%064d",'
        '"annotations":{"org.opencontainers.image.ref.name":"%s"}}'
    )
    names = ("latest", "v1")
    entries = ",".join(entry % (number, name) for number, name in enumerate(names))
    (tmp_path / "index.json").write_text(f'{{"manifests":[{entries}]}}')
    assert find_digest(tmp_path, "").encoded == "0" * 64
    assert find_digest(tmp_path, "v1").encoded == f"{1:064}"
    with pytest.raises(LayoutError, match="no image `v2`") as caught:
        find_digest(tmp_path, "v2")
    assert caught.value.hint == "it has `latest`, `v1`"
    with pytest.raises(UserError, match="no OCI layout"):
        find_digest(tmp_path / "none", "")
