"""The `oci` and `docker` exporters: an image as a tarball or as an OCI layout directory.

Spec: exporters reference, section 3; OCI image layout.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

from torana.core.content.store import ContentStore
from torana.core.errors import UserError
from torana.core.oci import image as oci
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.reference import parse_reference
from torana.core.pool import run_blocking
from torana.core.snapshots.layertar import tar_header
from torana.plugins.exporter import BlobOutput, ExportContext, ExportResult, Output
from torana.plugins.exporters import attributes
from torana.plugins.exporters.committing import (
    CommittedImage,
    ImageOptions,
    commit_image,
    descriptor_json,
)

_CREATED: Final = "org.opencontainers.image.created"
_BLOCK: Final = 512
_CHUNK: Final = 1 << 20


class ArchiveExporter:
    """Writes `oci` layouts and tarballs, and `docker` tarballs that `docker load` reads."""

    def __init__(self, type: str) -> None:
        self.type = type
        self.title = f"exporting to {type} image format"

    async def export(
        self,
        result: ExportResult,
        attrs: Mapping[str, str],
        output: Output | None,
        context: ExportContext,
    ) -> Mapping[str, str]:
        if output is None:
            raise UserError(f"{self.type} exporter needs a destination", hint="add dest=FILE")
        is_docker = self.type == "docker"
        if is_docker and result.is_map:
            raise UserError("docker exporter does not currently support exporting manifest lists")
        names = attributes.normalized_names(attrs)
        epoch = attributes.epoch(attrs, result.epoch)
        options = ImageOptions(
            compression=attributes.compression(attrs),
            oci_types=attributes.flag(attrs, "oci-mediatypes", True),
            epoch=epoch,
            rewrites_times=attributes.flag(attrs, "rewrite-timestamp", False),
        )
        image = await commit_image(result, options, context)
        created = datetime.fromtimestamp(time.time() if epoch is None else epoch, UTC)
        stamp = {_CREATED: created.strftime("%Y-%m-%dT%H:%M:%SZ")}
        root = replace(image.root, annotations={**stamp, **image.root.annotations})
        files = {"index.json": oci.compact_json(_index(root, names))}
        if is_docker:
            files["manifest.json"] = oci.compact_json(_load_manifest(image, names, context))
        answer = {
            "containerimage.digest": str(root.digest),
            "containerimage.descriptor": base64.b64encode(descriptor_json(root).encode()).decode(),
        }
        if image.config_digest is not None:
            answer["containerimage.config.digest"] = str(image.config_digest)
        if names:
            answer["image.name"] = ",".join(names)
        context.progress.status("sending tarball")
        if attributes.flag(attrs, "tar", True):
            await run_blocking(_write_tar, output, image.blobs, files, context.content, answer)
        elif isinstance(output, BlobOutput):
            await output.put_blobs(image.blobs, context.content)
        else:
            await run_blocking(
                _write_layout, output.directory(), image.blobs, files, context.content
            )
        context.progress.status("sending tarball", done=True)
        return answer


def _index(root: Descriptor, names: Sequence[str]) -> dict[str, object]:
    entries = []
    for name in names:
        reference = parse_reference(name)
        named = {
            **root.annotations,
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": reference.tag or "latest",
        }
        entries.append(replace(root, annotations=named).to_dict())
    return {
        "schemaVersion": 2,
        "mediaType": oci.OCI_INDEX,
        "manifests": entries or [root.to_dict()],
    }


def _load_manifest(
    image: CommittedImage, names: Sequence[str], context: ExportContext
) -> list[dict[str, object]]:
    manifest = json.loads(context.content.read(image.root.digest))
    return [
        {
            "Config": _blob_path(manifest["config"]["digest"]),
            "RepoTags": [parse_reference(name).familiar() for name in names],
            "Layers": [_blob_path(layer["digest"]) for layer in manifest["layers"]],
        }
    ]


def _blob_path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/', 1)}"


def _write_tar(
    output: Output,
    blobs: Sequence[Descriptor],
    files: Mapping[str, bytes],
    content: ContentStore,
    answer: Mapping[str, str],
) -> None:
    with output.file(answer) as file:
        for folder in ("blobs/", "blobs/sha256/"):
            file.write(tar_header(folder.encode(), b"5", mode=0o755, size=0))
        for blob in sorted(blobs, key=lambda blob: blob.digest):
            size = content.size(blob.digest)
            name = _blob_path(blob.digest).encode()
            file.write(tar_header(name, b"0", mode=0o444, size=size))
            with content.open(blob.digest) as source:
                shutil.copyfileobj(source, file, _CHUNK)
            file.write(bytes(-size % _BLOCK))
        for name_text in sorted([*files, "oci-layout"]):
            data = oci.LAYOUT if name_text == "oci-layout" else files[name_text]
            mode = 0o444 if name_text == "oci-layout" else 0o644
            file.write(tar_header(name_text.encode(), b"0", mode=mode, size=len(data)))
            file.write(data + bytes(-len(data) % _BLOCK))
        file.write(bytes(2 * _BLOCK))


def _write_layout(
    folder: Path, blobs: Sequence[Descriptor], files: Mapping[str, bytes], content: ContentStore
) -> None:
    """Write a layout directory; `index.json` comes last, so that a reader finds all it names."""
    (folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    (folder / "ingest").mkdir(exist_ok=True)
    for blob in blobs:
        target = folder / _blob_path(blob.digest)
        if target.exists():
            continue
        with content.open(blob.digest) as source, open(f"{target}.new", "wb") as file:
            _copy(source, file)
        os.replace(f"{target}.new", target)
    for name, data in (("oci-layout", oci.LAYOUT), *sorted(files.items(), reverse=True)):
        temporary = folder / f".{name}.new"
        temporary.write_bytes(data)
        os.replace(temporary, folder / name)


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    shutil.copyfileobj(source, target, _CHUNK)
