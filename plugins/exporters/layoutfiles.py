"""Images as archives or folders in the OCI layout, with what `docker load` reads besides.

Spec: exporters reference, section 3; OCI image specification, Image Layout.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final

from torana.core.content.store import ContentStore
from torana.core.oci import image as oci
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest
from torana.core.oci.reference import parse_reference
from torana.core.records import dataclass
from torana.core.snapshots.layertar import tar_header

_BLOCK: Final = 512
_CHUNK: Final = 1 << 20
FULL_NAME: Final = "io.containerd.image.name"
TAG: Final = "org.opencontainers.image.ref.name"


@dataclass(frozen=True, slots=True)
class NamedImage:
    """A manifest or index, and its full names with tags; it may have none."""

    root: Descriptor
    names: Sequence[str] = ()


def layout_files(
    images: Sequence[NamedImage], content: ContentStore, *, is_docker: bool = False
) -> dict[str, bytes]:
    """Give the files beside the blobs; with `is_docker` all images must be manifests."""
    files = {"index.json": oci.compact_json(_index(images))}
    if is_docker:
        described = [_load_entry(image, content) for image in images]
        files["manifest.json"] = oci.compact_json(described)
    return files


def _index(images: Sequence[NamedImage]) -> dict[str, object]:
    entries = []
    for image in images:
        if not image.names:
            entries.append(image.root.to_dict())
        for name in image.names:
            reference = parse_reference(name)
            named = {
                **image.root.annotations,
                FULL_NAME: name,
                TAG: reference.tag or "latest",
            }
            entries.append(replace(image.root, annotations=named).to_dict())
    return {"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": entries}


def _load_entry(image: NamedImage, content: ContentStore) -> dict[str, object]:
    manifest = json.loads(content.read(image.root.digest))
    return {
        "Config": _blob_path(manifest["config"]["digest"]),
        "RepoTags": [parse_reference(name).familiar() for name in image.names] or None,
        "Layers": [_blob_path(layer["digest"]) for layer in manifest["layers"]],
    }


def _blob_path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/', 1)}"


def write_archive(
    file: BinaryIO, blobs: Sequence[Digest], files: Mapping[str, bytes], content: ContentStore
) -> None:
    """Write everything as one tar. Blocks."""
    for folder in ("blobs/", "blobs/sha256/"):
        file.write(tar_header(folder.encode(), b"5", mode=0o755, size=0))
    for blob in sorted(blobs):
        size = content.size(blob)
        file.write(tar_header(_blob_path(blob).encode(), b"0", mode=0o444, size=size))
        with content.open(blob) as source:
            _copy(source, file)
        file.write(bytes(-size % _BLOCK))
    for name in sorted([*files, "oci-layout"]):
        data = oci.LAYOUT if name == "oci-layout" else files[name]
        mode = 0o444 if name == "oci-layout" else 0o644
        file.write(tar_header(name.encode(), b"0", mode=mode, size=len(data)))
        file.write(data + bytes(-len(data) % _BLOCK))
    file.write(bytes(2 * _BLOCK))


def write_layout(
    folder: Path, blobs: Sequence[Digest], files: Mapping[str, bytes], content: ContentStore
) -> None:
    """Write a layout folder; `index.json` comes last, so that a reader finds all it names."""
    (folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    (folder / "ingest").mkdir(exist_ok=True)
    for blob in blobs:
        target = folder / _blob_path(blob)
        if target.exists():
            continue
        with content.open(blob) as source, open(f"{target}.new", "wb") as file:
            _copy(source, file)
        os.replace(f"{target}.new", target)
    for name, data in (("oci-layout", oci.LAYOUT), *sorted(files.items(), reverse=True)):
        temporary = folder / f".{name}.new"
        temporary.write_bytes(data)
        os.replace(temporary, folder / name)


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    """Copy all of a file, within the kernel where both are files."""
    try:
        into = target.fileno()
    except (AttributeError, io.UnsupportedOperation):
        shutil.copyfileobj(source, target, _CHUNK)
        return
    target.flush()
    try:
        while os.copy_file_range(source.fileno(), into, 1 << 30):
            pass
    except OSError:
        # Not between these two, or the disk is full: writing goes on from there, and says why.
        shutil.copyfileobj(source, target, _CHUNK)
