"""`ImageOptions`: how an image is made, read from the attributes of an exporter.

Spec: exporters reference, sections 2, 3, 9 and 12.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from torana.core.content.compression import GZIP, Compression
from torana.core.errors import UserError
from torana.core.records import dataclass
from torana.plugins.exporter import ExportResult
from torana.plugins.exporters import attributes
from torana.plugins.exporters.annotations import Annotations, read_annotations


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOptions:
    """How an image is made; `epoch` in seconds."""

    compression: Compression = GZIP
    is_compression_forced: bool = False
    oci_types: bool = True
    prefers_foreign: bool = False  # layers that may not be pushed keep their type
    epoch: int | None = None
    rewrites_times: bool = False
    annotations: Annotations = field(default_factory=Annotations)


def read_options(attrs: Mapping[str, str], result: ExportResult) -> ImageOptions:
    """Read the options for an image of `result`.

    Raises:
        UserError: one is malformed, or does not fit the others or the result.
    """
    options = _read(attrs, result.metadata, result.epoch)
    options.annotations.check(
        [part.platform for part in result.platforms],
        has_index=result.is_map,
        oci_types=options.oci_types,
    )
    return options


def check_options(attrs: Mapping[str, str]) -> None:
    """See that options make sense, whatever the result.

    Raises:
        UserError: one is malformed, or does not fit the others.
    """
    _read(attrs, {}, None)


def _read(
    attrs: Mapping[str, str], metadata: Mapping[str, bytes], epoch: int | None
) -> ImageOptions:
    said = {
        key: value.decode("utf-8", "surrogateescape")
        for key, value in metadata.items()
        if key.startswith("annotation")
    }
    options = ImageOptions(
        compression=attributes.compression(attrs),
        is_compression_forced=attributes.flag(attrs, "force-compression", False),
        oci_types=attributes.flag(attrs, "oci-mediatypes", True),
        prefers_foreign=attributes.flag(attrs, "prefer-nondist-layers", False),
        epoch=attributes.epoch(attrs, epoch),
        rewrites_times=attributes.flag(attrs, "rewrite-timestamp", False),
        annotations=read_annotations(attrs, said),
    )
    if options.compression.type == "estargz" and not options.oci_types:
        raise UserError(
            'exporter option "compression=estargz" conflicts with "oci-mediatypes=false"'
        )
    if options.rewrites_times and attributes.flag(attrs, "unpack", False):
        raise UserError('exporter option "rewrite-timestamp" conflicts with "unpack"')
    return options
