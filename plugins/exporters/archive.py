"""The `oci` and `docker` exporters: an image as a tarball or as an OCI layout directory.

Spec: exporters reference, section 3; OCI image layout.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from torana.core.content.store import ContentStore
from torana.core.errors import UserError
from torana.core.oci.digest import Digest
from torana.core.pool import run_blocking, tasks_together
from torana.plugins.exporter import BlobOutput, ExportContext, ExportResult, Output
from torana.plugins.exporters import attributes
from torana.plugins.exporters.committing import CommittedImage, commit_image
from torana.plugins.exporters.imageoptions import check_options, read_options
from torana.plugins.exporters.layoutfiles import (
    NamedImage,
    layout_files,
    write_archive,
    write_layout,
)

_CREATED: Final = "org.opencontainers.image.created"


class ArchiveExporter:
    """Writes `oci` layouts and tarballs, and `docker` tarballs that `docker load` reads."""

    def __init__(self, type: str) -> None:
        self.type = type
        self.title = f"exporting to {type} image format"

    def check(self, attrs: Mapping[str, str]) -> None:
        check_options(attrs)
        attributes.normalized_names(attrs, "")
        attributes.flag(attrs, "tar", True)

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
            raise UserError(
                "docker exporter does not currently support exporting manifest lists",
                hint="type=oci takes several platforms",
            )
        names = attributes.normalized_names(attrs, result.default_name)
        options = read_options(attrs, result)
        image = await commit_image(result, options, context)
        moment = time.time() if options.epoch is None else options.epoch
        created = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        root = replace(image.root, annotations={_CREATED: created, **image.root.annotations})
        files = layout_files([NamedImage(root, names)], context.content, is_docker=is_docker)
        answer = replace(image, root=root).answer
        if names:
            answer["image.name"] = ",".join(names)
        context.progress.status("sending tarball")
        async with tasks_together() as group:
            # While the disk takes the blobs, they are read from memory once more.
            group.create_task(run_blocking(context.content.sync))
            await self._write(attrs, output, image, files, answer, context)
        context.progress.status("sending tarball", done=True)
        return answer

    async def _write(
        self,
        attrs: Mapping[str, str],
        output: Output,
        image: CommittedImage,
        files: Mapping[str, bytes],
        answer: Mapping[str, str],
        context: ExportContext,
    ) -> None:
        digests = [blob.digest for blob in image.blobs]
        if attributes.flag(attrs, "tar", True):
            await run_blocking(_write_archive, output, digests, files, context.content, answer)
        elif isinstance(output, BlobOutput):
            await output.put_blobs(image.blobs, context.content)
        else:
            await run_blocking(write_layout, output.directory(), digests, files, context.content)


def _write_archive(
    output: Output,
    blobs: Sequence[Digest],
    files: Mapping[str, bytes],
    content: ContentStore,
    answer: Mapping[str, str],
) -> None:
    with output.file(answer) as file:
        write_archive(file, blobs, files, content)
