"""Built-in exporters: image, oci, docker, local and tar."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torana.plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from torana.plugins.exporter import Exporter


@hookimpl
def torana_list_exporters() -> list[str]:
    """Give the types of the built-in exporters."""
    return ["docker", "image", "local", "oci", "tar"]


@hookimpl
def torana_find_exporter(type: str) -> Exporter | None:
    """Give the built-in exporter of a type."""
    if type == "image":
        from torana.plugins.exporters.image import ImageExporter

        return ImageExporter()
    if type in ("oci", "docker"):
        from torana.plugins.exporters.archive import ArchiveExporter

        return ArchiveExporter(type)
    if type in ("local", "tar"):
        from torana.plugins.exporters.files import FilesExporter

        return FilesExporter(type)
    return None
